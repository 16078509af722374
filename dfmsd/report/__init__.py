"""What records say: tables, figures and verdicts, the same for every page."""
