"""The service answers as the recommender does, whoever asks beside, and refuses in one line what it must refuse."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from pathlib import Path

import pytest
from browser import Browser
from packages import N_USERS, World, make_world

from genrec.recommend.service import main
from genrec.serving.recommender import Recommender, Request
from recommend.serving_process import Service, running

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    world = make_world(tmp_path_factory.mktemp("world"))
    world.repackage("sasrec", "tiger", "parallel", "parallel_with_memory")
    return world


@pytest.fixture(scope="module")
def service(world: World) -> Iterator[Service]:
    with running(world.package) as service:
        yield service


def expected(world: World, **settings) -> list[dict]:
    (answer,) = Recommender.load(world.package).recommend([Request(**settings)])
    return asdict(answer)["recommendations"]


def same_items(given: list[dict], wanted: list[dict]) -> bool:
    return [each["item"] for each in given] == [each["item"] for each in wanted]


def test_many_who_ask_at_once_get_each_the_answer_that_is_theirs(world, service):
    models = ("sasrec", "tiger", "parallel", "parallel_with_memory")
    questions = [
        {"user": f"u{1 + place % N_USERS}", "model": models[place // N_USERS], "k": 1 + place % 7}
        for place in range(160)
    ]
    with ThreadPoolExecutor(16) as pool:
        given = list(pool.map(lambda question: service.ask("/recommend", question), questions))
    assert {status for status, _ in given} == {200}
    answers = Recommender.load(world.package).recommend([Request(**question) for question in questions])
    for (_, answer), wanted in zip(given, answers, strict=True):
        assert same_items(answer["recommendations"], asdict(wanted)["recommendations"])
    assert max(answer["batch"] for _, answer in given) > 1


@pytest.mark.parametrize(
    ("body", "status", "line"),
    [
        ({"user": "u1", "k": 0}, 422, "k: Input should be greater than or equal to 1"),
        ({"user": "u1", "k": 10_000}, 422, "k: Input should be less than or equal to 100"),
        ({"user": "u1", "items": ["i1"]}, 422, "give either `user` or `items`"),
        ({}, 422, "give either `user` or `items`"),
        ({"items": ["i1"] * 1001}, 422, "items: List should have at most 1000 items"),
        ({"user": "u1", "colour": "red"}, 422, "colour: Extra inputs are not permitted"),
        ({"user": "u1", "model": "gru"}, 400, "no model named 'gru'"),
        ({"user": "u1", "temperature": -1}, 422, "temperature: Input should be greater than or equal to 0"),
    ],
)
def test_bad_input_is_refused_in_one_line(service, body, status, line):
    given, answer = service.ask("/recommend", body)
    assert given == status
    assert answer["error"].startswith(line)
    assert "\n" not in answer["error"]


def test_what_is_no_json_or_too_much_of_it_is_refused_and_the_service_goes_on(service):
    assert service.ask("/recommend", data=b"{nothing")[0] == 422
    assert service.ask("/recommend", data=b"\xff\xfe")[0] in (400, 422)
    assert service.ask("/recommend", data=b" " * 300_000)[0] == 413
    assert service.ask("/recommend", {"user": "u1"})[0] == 200


def test_a_package_in_the_home_folder_of_nobody_is_told_in_one_line():
    with pytest.raises(SystemExit, match="^error: --package: ~nobody-at-all begins with the name of no user"):
        main(["--package", "~nobody-at-all"])


def test_items_and_likeness_and_figures_are_there_to_ask(service):
    assert service.ask("/items?q=amelie")[1][0]["item"] == "i7"
    assert len(service.ask("/similar?item=i7&k=3")[1]) == 3
    assert service.ask("/similar?item=nothing") == (404, {"error": "no item 'nothing'"})
    assert service.ask("/user?key=u1")[0] == 200
    assert 'genrec_requests_total{path="/similar",status="404"}' in service.ask("/metrics")[1]
    assert "/recommend" in service.ask("/openapi.json")[1]["paths"]


def test_a_new_package_is_taken_up_without_a_dropped_question(tmp_path: Path):
    world = make_world(tmp_path)
    with running(world.package) as service, ThreadPoolExecutor(4) as pool:
        asking = [pool.submit(service.ask, "/recommend", {"user": f"u{1 + place % 9}"}) for place in range(150)]
        world.repackage("tiger", "sasrec")
        statuses = {each.result()[0] for each in asking}
        _, answer = service.ask("/recommend", {"user": "u1", "k": 3})
        assert statuses == {200}
        assert answer["source"] == "tiger"
        assert same_items(answer["recommendations"], expected(world, user="u1", k=3))
        assert service.ask("/about")[1]["models"][0]["name"] == "tiger"


def test_more_than_may_wait_are_sent_away_and_all_others_answered(world):
    with running(world.package, "--max-waiting", "2") as service, ThreadPoolExecutor(32) as pool:
        asking = [pool.submit(service.ask, "/recommend", {"user": "u1", "k": 3}) for _ in range(200)]
        given = [each.result() for each in asking]
        wanted = expected(world, user="u1", k=3)
        assert {status for status, _ in given} == {200, 503}
        assert all(same_items(answer["recommendations"], wanted) for status, answer in given if status == 200)


def test_with_a_token_only_who_knows_it_is_answered(world):
    with running(world.package, token="secret") as service:
        assert service.ask("/recommend", {"user": "u1"})[0] == 200
        assert service.ask("/recommend", {"user": "u1"}, token="guess")[0] == 401
        assert service.ask("/user?key=u1", token="guess")[0] == 401
        assert service.ask("/health", token="guess")[0] == 200


def test_the_page_shows_each_models_list_for_a_history_that_is_built_by_keyboard(
    world: World, service: Service, browser: Browser
):
    from selenium.webdriver.common.keys import Keys

    browser.open(f"{service.address}/")
    browser.wait_for("SASRec", "TIGER", "most popular")
    (query,) = browser.find("#query")
    query.send_keys("amelie")
    browser.driver.implicitly_wait(10)
    browser.find("#found li[aria-selected=true]")
    query.send_keys(Keys.ENTER)
    wanted = expected(world, items=["i7"], model="tiger")
    browser.wait_for("≈ The Film Amélie", wanted[0]["title"], wanted[-1]["title"])
    shown = [each.get_attribute("data-key") for each in browser.find("article[aria-label=TIGER] .item")]
    assert shown == [each["item"] for each in wanted]
    browser.find("article[aria-label=TIGER] .item")[0].send_keys(Keys.ENTER)
    browser.wait_for("Shares the most codes with")
    browser.dark()
    assert browser.errors() == []
