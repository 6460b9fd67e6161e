"""The page of results: its figures are those of results.json, its bytes follow from its findings, it works offline."""

import json
import re
from html.parser import HTMLParser

import pytest
from made_up_findings import findings
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.support.wait import WebDriverWait

from genrec.generators.titles import model_titles
from genrec.report.charts import COLOURS, looks
from genrec.report.page import SECTIONS, TEMPLATES, report_page

MOST_BYTES = 6_000_000
NAMES = [name for name, _ in SECTIONS]


@pytest.fixture(scope="module")
def found():
    return findings()


@pytest.fixture(scope="module")
def page(found):
    return report_page(found)


class Figures(HTMLParser):
    """(split, protocol, model, metric) to the value of each cell of the tables of figures."""

    def __init__(self, text):
        super().__init__()
        self.values, self.ends, self.place, self.model, self.metric = {}, {}, None, None, None
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        attrs = dict(attrs)
        if tag == "table":
            self.place = (attrs["data-split"], attrs["data-protocol"]) if "data-split" in attrs else None
        self.model = attrs.get("data-model", self.model)
        if self.place and tag == "td":
            self.metric = attrs["data-metric"]
            if "data-value" in attrs:
                self.values[(*self.place, self.model, self.metric)] = float(attrs["data-value"])
        if self.place and tag == "small":
            self.ends[(*self.place, self.model, self.metric)] = [float(attrs["data-low"]), float(attrs["data-high"])]


def without_scripts(page):
    return re.sub(r"<script.*?</script>", "", page, flags=re.DOTALL)


def test_its_figures_are_those_of_the_results(found, page):
    read = Figures(page)
    trees = {model: result["values"] for model, result in found.results.items()}
    expected = {
        (split, protocol, model, metric): value
        for model, tree in trees.items()
        for split in ("test", "validation")
        for protocol, values in tree[split].items()
        for metric, value in values.items()
    }
    assert len(expected) > 100
    assert read.values == expected
    assert all(ends == found.results[model]["intervals"][split][protocol][metric]
               for (split, protocol, model, metric), ends in read.ends.items())  # fmt: skip
    assert len(read.ends) == len(expected) * 3 / 5


def test_the_verdict_names_the_model_of_the_highest_recall(found, page):
    recall = {m: r["values"]["test"]["excluded"]["recall_at_10"] for m, r in found.results.items()}
    title = model_titles()[max(recall, key=recall.get)]
    assert f"{max(recall.values()):.1%} of the users" in page
    assert f"<title>genrec on made-up: {title} is best</title>" in page


def test_the_same_findings_give_the_same_bytes(page):
    assert report_page(findings()) == page


def test_it_loads_nothing_from_elsewhere(page):
    markup = without_scripts(page)
    assert re.findall(r"(?:src|href)=\"(?!#|data:)[^\"]*\"", markup) == []
    assert "url(" not in markup
    assert "@import" not in markup
    assert page.count("plotly.js v") == 1


def test_titles_are_text_and_never_markup(page):
    assert "<b>film" not in page
    assert "A &lt;b&gt;film&lt;/b&gt; called" in page
    charts = re.findall(r"<script type=\"application/json\"[^>]*>(.*?)</script>", page, flags=re.DOTALL)
    assert len(charts) > 15
    assert all(json.loads(chart)["data"] for chart in charts)


def test_each_chart_has_a_name_of_its_own_a_title_and_a_summary(page):
    markup = without_scripts(page)
    ids = re.findall(r"\bid=\"([^\"]+)\"", markup)
    assert len(ids) == len(set(ids))
    pointed = re.findall(r"aria-(?:labelledby|describedby)=\"([^\"]+)\"", markup) + re.findall(
        r"href=\"#([^\"]+)\"", markup
    )
    assert set(pointed) <= set(ids)
    assert re.findall(r"<p class=\"summary\"[^>]*>\s*</p>", markup) == []


def test_all_sections_stand_in_order(page):
    assert re.findall(r"<section id=\"(\w+)\"", page) == NAMES


def test_what_is_missing_leaves_a_sentence():
    page = report_page(findings(missing=("audits", "candidates", "codes", "curves"), with_times=False))
    for sentence in (
        "No search was set beside exact scoring",
        "nothing can be said of calibration",
        "No code table was found",
        "No stage left a curve",
        "Code by code nothing is known",
        "not known: the data have an order, but no times",
        "nothing can be said by the catalogue",
    ):
        assert sentence in page, sentence


def test_a_page_as_large_as_beautys_is_under_six_million_bytes():
    title = "A product of that long kind of name which shops like to give, 200 ml, pack of 2, number {}"
    page = report_page(findings(n_users=22_363, n_items=12_101, title=title))
    assert len(page.encode()) < MOST_BYTES


def luminance(colour):
    """WCAG 2.2's relative luminance of #rrggbb."""
    parts = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
    return sum(weight * part for weight, part in zip((0.2126, 0.7152, 0.0722), linear, strict=True))


def contrast(one, other):
    high, low = sorted((luminance(one), luminance(other)), reverse=True)
    return (high + 0.05) / (low + 0.05)


def grounds():
    """The variables of the light and of the dark page."""
    style = (TEMPLATES / "style.css").read_text()
    found = []
    for block in re.findall(r":root\{(.*?)\}", style, flags=re.DOTALL)[:2]:
        shades = dict(re.findall(r"--(\w+):(#\w+)", block))
        found.append({n: "#" + "".join(2 * c for c in v[1:]) if len(v) == 4 else v for n, v in shades.items()})
    return found


@pytest.mark.parametrize("shades", grounds(), ids=["light", "dark"])
def test_models_and_words_can_be_told_from_the_ground(shades):
    assert all(contrast(colour, shades["ground"]) >= 3 for colour in COLOURS)
    assert all(contrast(shades[name], shades["ground"]) >= 4.5 for name in ("text", "quiet", "accent"))


def test_what_is_derived_from_a_model_has_its_colour_and_another_mark():
    found = looks({"tiger": "TIGER", "tiger_ranked": "TIGER, ranked", "etegrec": "ETEGRec"})
    assert found["tiger"].colour == found["tiger_ranked"].colour != found["etegrec"].colour
    assert found["tiger"].mark != found["tiger_ranked"].mark


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
def test_a_browser_shows_it_sorts_a_table_and_opens_a_card(page, browser, tmp_path, dark):
    file = tmp_path / "report.html"
    file.write_text(page, encoding="utf-8")
    browser.dark(dark)
    browser.open(file)
    assert [section.get_attribute("id") for section in browser.find("main > section")] == NAMES
    browser.wait_for("Model card")
    drawn = "return document.querySelectorAll('#popularity .main-svg').length"
    browser.driver.execute_script("document.getElementById('popularity').scrollIntoView()")
    WebDriverWait(browser.driver, 60).until(lambda driver: driver.execute_script(drawn) > 0)

    recall = "return [...document.querySelectorAll('.figures tbody')[0].rows].map(r => +r.cells[1].dataset.value)"
    heading = browser.find(".figures th button")[1]
    heading.send_keys(Keys.ENTER)  # as those do who have no mouse
    values = browser.driver.execute_script(recall)
    assert values == sorted(values, reverse=True)
    assert browser.find(".figures th")[1].get_attribute("aria-sort") == "descending"
    heading.send_keys(Keys.ENTER)
    assert browser.driver.execute_script(recall) == values[::-1]

    card = browser.find("details.card")[0]
    card.find_element("css selector", "summary").send_keys(Keys.ENTER)
    assert card.find_element("css selector", "table").is_displayed()
    ground = browser.driver.execute_script("return getComputedStyle(document.body).backgroundColor")
    assert ground == ("rgb(18, 22, 29)" if dark else "rgb(255, 255, 255)")
    assert browser.errors() == []
