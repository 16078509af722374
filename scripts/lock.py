"""Write lock.txt, the study's environment: every package that is installed here, at its version (``make lock`` calls it).

After a range in pyproject.toml has changed: install what it asks for into the environment, see that the tests pass, and lock.
"""

from __future__ import annotations

from dfmsd.study import doctor, paths

HEAD = "# The study's environment, every package of it; `make setup` installs it, and `make lock` writes it.\n"

if __name__ == "__main__":
    lines = [f"{name}=={version}\n" for name, version in doctor.installed().items()]
    (paths.ROOT / "lock.txt").write_text(HEAD + "".join(lines))
    print(f"lock.txt: {len(lines)} packages")
