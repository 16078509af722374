"""What is decided: hypotheses over all pairs, and the papers' claims, beside what chance alone would make of them."""

from __future__ import annotations

import pandas as pd
import seaborn as sns
from matplotlib.figure import Figure

from dfmsd.report import figures
from dfmsd.report.tables import plain, signed
from dfmsd.study import hypotheses, pages
from dfmsd.study.pages.measured import MeasuredPage
from dfmsd.study.verdicts import VERDICTS

COLOURS: dict[str, str] = dict(zip(VERDICTS, ("#0072B2", "#D55E00", "#999999", "#FFFFFF"), strict=True))
"""Of each verdict: Okabe and Ito's blue and vermilion; grey and white where nothing is decided."""

WHOSE = {False: "claims of the papers", True: "our own comparisons"}

PAPERS = {"dfmsd": "DFMSD", "structural": "SKD"}
"""What the board calls a paper."""


def summary(asked: pd.DataFrame, judged: pd.DataFrame, chance: pd.DataFrame) -> str:
    """How many hypotheses and claims of one scale are settled, beside what chance alone would make of them, as Markdown."""
    verdicts = asked["verdict"].value_counts()
    lines = [f"- Hypotheses ({len(asked)}): " + ", ".join(f"{verdicts.get(one, 0)} {one}" for one in VERDICTS) + "."]
    for ours, own in judged.groupby("ours", sort=False):
        found = counts(own, own["ours"], chance).iloc[0]
        said = [f"{found[one]:.0f} {one} ({_few(found[f'{one} by chance'])} by chance)" for one in VERDICTS[:2]]
        said += [f"{found[one]:.0f} {one}" for one in VERDICTS[2:]]
        lines.append(f"- {WHOSE[bool(ours)].capitalize()} ({len(own)}): {', '.join(said)}.")
    measured = judged["page"].map(lambda name: isinstance(pages.get(name), MeasuredPage))
    kinds = {"about what students reach": judged[~measured], "about features and images": judged[measured]}
    decided = (f"{own['verdict'].isin(VERDICTS[:2]).sum()} of {len(own)} {kind}" for kind, own in kinds.items() if len(own))
    lines.append(f"- Decided are {', '.join(decided)}.")
    return "\n".join(lines)


def _few(count: float) -> str:
    return f"{count:.1f}" if count >= 0.05 else "fewer than 0.1"


def over_pairs(found: pd.DataFrame) -> pd.DataFrame:
    """What :func:`dfmsd.study.hypotheses.judged` gives, as a table by the hypothesis's words."""
    table = found.set_index(found["id"] + ": " + found["text"])
    interval = [None if pd.isna(low) else (low, high) for low, high in zip(table["low"], table["high"], strict=True)]
    return pd.DataFrame(
        {
            "verdict": table["verdict"] + table["stale"].map({True: ", stale", False: ""}),
            "Δ mean": table["estimate"],
            "95 %": pd.Series(interval, index=table.index, dtype=object),
            "above in": table["above"].where(table["pairs"] > 0, ""),
            "pairs run": table["pairs"].astype(str) + " of " + table["planned"].astype(str),
            "seeds": table["seeds"],
            "p": table["p"],
            "p, Holm": table["holm"],
            "detects": table["detectable"],
        }
    )


def forest(found: pd.DataFrame) -> Figure:
    """The estimate of each hypothesis with its interval, and the difference that its pairs can detect."""
    asked = {one.id: one for one in hypotheses.asked().among}
    with figures.style():
        drawn = Figure(figsize=(7.5, 1.0 + 0.5 * len(found)), layout="constrained")
        ax = drawn.subplots()
        ax.grid(axis="y", visible=False)
        ax.axvline(0, color="#777777", linewidth=1, zorder=1)
        for y, line in enumerate(found.to_dict("records")):
            if pd.isna(line["estimate"]):
                ax.text(0.98, y, "not run", transform=ax.get_yaxis_transform(), ha="right", va="center", **figures.MISSING)
                continue
            if not pd.isna(line["detectable"]):
                ax.hlines(y, -line["detectable"], line["detectable"], color="#DDDDDD", linewidth=9, zorder=0)
            if not pd.isna(line["low"]):
                ax.hlines(y, line["low"], line["high"], color="#333333", linewidth=2, zorder=2)
            ax.scatter(line["estimate"], y, s=50, color=COLOURS[line["verdict"]], edgecolor="#333333", zorder=3)
        labels = [
            f"{line['id']}: {compared(asked[line['id']])}".replace(", ", ",\n")
            + f"\n{signed(line['estimate'])}, {line['verdict']}" * (not pd.isna(line["estimate"]))
            for line in found.to_dict("records")
        ]
        ax.set_yticks(range(len(found)), labels=labels)
        ax.set(ylim=(len(found) - 0.5, -0.5), ylabel="")
        if found["estimate"].isna().all():
            ax.set_xticks([])
        ax.margins(x=0.1)  # whole points, at either end
        scale = found["scale"].iloc[0]
        grey = "\ngrey: differences that so many pairs cannot detect" * bool(found["detectable"].notna().any())
        ax.set_xlabel(f"mean difference in AP over pairs, 95 % interval, scale {scale}{grey}")
    values = found.set_index("id")["estimate"]
    return figures.described(drawn, figures.alt(f"Mean difference in AP over pairs by hypothesis, scale {scale}", values, signed))


def compared(asked: hypotheses.Hypothesis) -> str:
    """The two sides of a hypothesis in few words.

    Example:
        >>> [compared(one) for one in hypotheses.asked().among][5:7]
        ['DFMSD − DMKD, other type − own type', 'SSIM − l2 or MSE']
    """
    sides = f"{asked.subject} − {' or '.join(name.removeprefix('DFMSD, ') for name in asked.rivals)}"
    return sides.replace("− baseline", "− no teacher") + ", other type − own type" * asked.by_type


def counts(judged: pd.DataFrame, by: pd.Series[str], chance: pd.DataFrame | None = None) -> pd.DataFrame:
    """How often each verdict came out, a line for each value of ``by`` in the order of the claims.

    With what :func:`dfmsd.study.verdicts.under_null` gives for the same frame: also how many claims would be supported, and
    contradicted, if no method did anything.
    """
    order = list(dict.fromkeys(by))
    table = pd.crosstab(by, judged["verdict"]).reindex(index=order, columns=list(VERDICTS), fill_value=0)
    table = table.rename_axis(index=None, columns=None)
    if chance is not None:
        shares = judged[["scale", "id"]].merge(chance, on=["scale", "id"], how="left").set_axis(judged.index)
        for verdict in ("supported", "contradicted"):
            by_chance = shares[verdict].groupby(by).sum().reindex(order)
            table.insert(list(table).index(verdict) + 1, f"{verdict} by chance", by_chance)
    return table


def figure(counted: pd.DataFrame, scale: str) -> Figure:
    """What :func:`counts` gives, as bars of one line each."""
    counted = counted[list(VERDICTS)]
    with figures.style(), sns.axes_style("white", {"font.size": 9}):
        drawn = Figure(figsize=(8.2, 0.9 + 0.27 * len(counted)), layout="constrained")
        ax = drawn.subplots()
        counted.plot.barh(
            stacked=True,
            ax=ax,
            color=[COLOURS[str(name)] for name in counted],
            edgecolor="#777777",
            linewidth=0.6,
            width=0.8,
            legend=False,
        )
        for verdict, bars in zip(counted, ax.containers, strict=True):
            inside = "white" if verdict in ("supported", "contradicted") else "black"
            for bar, n in zip(bars, counted[verdict], strict=True):
                bar.set(linewidth=0.6 if n else 0)
                # Not by bar_label, whose words stay where they were when a phone's copy of the figure is narrower.
                x, y = bar.get_center()
                ax.text(x, y, str(n or ""), ha="center", va="center", color=inside, fontsize=8)
        ax.invert_yaxis()
        ax.margins(y=0.01)
        ax.xaxis.set_visible(False)
        ax.tick_params(length=0)
        sns.despine(ax=ax, bottom=True, left=True)
        legend = drawn.legend(loc="outside upper center", ncols=len(VERDICTS), frameon=False, fontsize=8, columnspacing=1.2)
        for patch in legend.get_patches():
            patch.set_linewidth(0.6)  # each has that of its first bar, which may be nothing
        drawn.supxlabel(f"claims, scale {scale}", fontsize=9)
    said = counted.apply(lambda line: ", ".join(f"{n} {verdict}" for verdict, n in line.items() if n), axis="columns")
    return figures.described(drawn, figures.alt(f"Verdicts on the claims of each section at scale {scale}", said, str))


def said(judged: pd.DataFrame) -> str:
    """Every claim with its verdict and its numbers, a line each, as Markdown; without numbers if it is not run."""
    lines = []
    for one in judged.to_dict("records"):
        numbers = f": {plain(one['numbers'])}" if one["numbers"] else ""
        undecided = one["verdict"] == "not settled"
        why = ", as there is one training of each network" * (undecided and not one["tested"])
        sign = " What is measured says the opposite." * (undecided and one["opposite"])
        lines.append(f"- **{one['verdict'][0].upper()}{one['verdict'][1:]}**{why}: {plain(one['text'])}{numbers}.{sign}")
    return "\n".join(lines)


def board(judged: pd.DataFrame) -> pd.DataFrame:
    """Every claim, by its section and words: verdict and numbers in a line at each scale, and the paper's; ours are marked."""
    own = judged.assign(verdict=judged["verdict"] + judged["stale"].map({True: ", stale", False: ""}))
    contradicts = own["paper_supports"].map({False: ", contradicts"}).fillna("")
    own["paper"] = (own["paper_numbers"] + contradicts).mask(own["ours"], "ours")
    index = ["section", "text"]
    found = {}
    for scale, lines in own.groupby("scale", sort=False):
        found[str(scale), "verdict"] = lines.set_index(index)["verdict"]
        # A line breaks at a hyphen.
        p = lines["p"].map(lambda p: "" if pd.isna(p) else f"; p = {p:.2g}".replace("-", "−"))
        found[str(scale), "numbers"] = lines.assign(said=lines["brief"] + p).set_index(index)["said"]
    found["paper", "numbers"] = own.drop_duplicates("id").set_index(index)["paper"]
    return pd.DataFrame(found).reindex(pd.MultiIndex.from_frame(own[index].drop_duplicates()))


def coloured(label: object) -> str:
    """The colour of a cell with a verdict, as a style."""
    verdict = str(label).removesuffix(", stale")
    colour = "transparent" if verdict == "not run" else COLOURS.get(verdict)  # white would shine in the dark
    return f"box-shadow: inset 0.4em 0 {colour}; padding-left: 0.8em !important" if colour else ""
