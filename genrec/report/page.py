"""The page of results: one file that needs no network, with plotly's script inside once.

The same findings give the same bytes: names of charts are given, nothing tells the time.
"""

from pathlib import Path

from jinja2 import Environment, PackageLoader, StrictUndefined
from plotly.offline import get_plotlyjs

from genrec.generators.titles import model_titles
from genrec.report.charts import looks
from genrec.report.findings import Findings
from genrec.report.generation_section import generation_section
from genrec.report.lists_section import lists_section
from genrec.report.outcome_sections import results_section, verdict
from genrec.report.run_section import run_section
from genrec.report.slices_section import slices_section
from genrec.report.tokenizer_section import tokenizer_section
from genrec.report.training_section import training_section
from genrec.report.users_section import users_section

TEMPLATES = Path(__file__).with_name("templates")
SECTIONS = (
    ("run", "What was run"),
    ("verdict", "The verdict"),
    ("results", "Results"),
    ("slices", "Where models win and lose"),
    ("lists", "Beyond accuracy"),
    ("tokenizer", "The tokenizer"),
    ("generation", "Generation"),
    ("users", "Thirty users"),
    ("training", "Training"),
    ("card", "Model card"),
)


def report_page(found: Findings) -> str:
    """The whole page as HTML."""
    titles = {model: title for model, title in model_titles().items() if model in found.results}
    look = looks(titles)
    environment = Environment(
        loader=PackageLoader("genrec.report"),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=StrictUndefined,
    )
    return (
        environment.get_template("page.html")
        .render(
            sections=SECTIONS,
            k=found.k,
            data=str(found.settings["fetch_data"]["name"]),
            style=(TEMPLATES / "style.css").read_text(encoding="utf-8"),
            script=(TEMPLATES / "page.js").read_text(encoding="utf-8"),
            plotly=get_plotlyjs(),
            run=run_section(found),
            verdict=verdict(found.results, titles, found.k),
            results=results_section(found, look),
            slices=slices_section(found, look),
            lists=lists_section(found, look),
            tokenizer=tokenizer_section(found),
            generation=generation_section(found, look),
            users=users_section(found, look),
            training=training_section(found),
            statistics=found.statistics,
        )
        .rstrip()
        + "\n"
    )
