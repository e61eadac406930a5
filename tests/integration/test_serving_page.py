"""The server's pages: what they may do, and what people see in a real browser."""

import csv
import json
import re
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import uvicorn
from fastapi.testclient import TestClient

import predgen
from predgen.report.pages import STYLE
from predgen.serving.app import create_app
from predgen.serving.keys import Keys
from predgen.serving.running import address_of, open_port
from tests.helpers.accessibility import grave_faults, needs_axe
from tests.helpers.chromium import browser_page, needs_chromium
from tests.helpers.commands import run
from tests.helpers.tables import reviews

KEY = "a-key-of-twenty-signs"
SMALL: dict[str, Any] = {"batch_size": 8, "max_steps": 2, "quiet": True, "device": "cpu"}
NAME = "<img src=x onerror=alert(1)>"


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> predgen.Model:
    """Returns a calibrated record, one of whose labels is markup."""
    table = reviews(100)
    table["mood"] = table["mood"].replace("bad", NAME)
    return predgen.fit(table, "stars,mood", inputs=["review"], calibration=0.4, **SMALL)


@pytest.fixture(scope="module")
def address(model: predgen.Model) -> Iterator[str]:
    """Returns the address of a server that asks for a key."""
    app = create_app({"record": model, "again": model}, keys=Keys([KEY]))
    with open_port("127.0.0.1", 0) as opened:
        server = uvicorn.Server(uvicorn.Config(app, log_config=None, lifespan="on", ws="none"))
        thread = threading.Thread(target=server.run, kwargs={"sockets": [opened]})
        thread.start()
        while not server.started:
            time.sleep(0.01)
        yield address_of(opened)
        server.should_exit = True
        thread.join()


@pytest.mark.parametrize("path", ["/", "/docs"])
def test_a_page_is_one_file_that_may_ask_its_server_alone(path: str, model: predgen.Model) -> None:
    with TestClient(create_app({NAME: model})) as client:
        response = client.get(path)
    page, policy = response.text, response.headers["Content-Security-Policy"]
    assert "default-src 'none'" in policy
    assert "connect-src 'self'" in policy
    assert "unsafe" not in policy
    assert len(re.findall(r"'sha256-[^']{44}'", policy)) == (2 if path == "/" else 1)
    assert not re.findall(r"https?://|@import|url\(", page)
    assert not re.findall(r"innerHTML|outerHTML|insertAdjacent|document\.write|\beval\b", page)
    assert not re.findall(r"<[^>]+ (?:on\w+|style)=", page)
    assert NAME not in page
    assert STYLE in page  # the look of the reports


@needs_chromium
@pytest.mark.slow
@pytest.mark.parametrize("width", [1280, 390])
def test_a_person_asks_for_a_row_and_for_a_table(
    address: str, model: predgen.Model, width: int, tmp_path: Path
) -> None:
    with browser_page(width) as (page, said):
        page.goto(address)
        page.get_by_label("API key").fill("wrong")
        page.get_by_role("button", name="Show the models").click()
        page.get_by_role("alert").get_by_text("The server does not know this key.").wait_for()
        assert any("401" in line for line in said)
        said.clear()
        page.get_by_label("API key").fill(KEY)
        page.keyboard.press("Enter")

        page.get_by_label("Model").select_option("record")
        field = page.get_by_label("review")
        field.fill("A lovely <b>film</b>.")
        for name in ("probabilities", "standard deviation", "interval of 90 %", "distribution", "written tokens"):
            page.keyboard.press("Tab")
            assert page.evaluate("document.activeElement.parentElement.textContent") == name
        page.keyboard.press("Tab")
        page.keyboard.press("Enter")
        answer = page.get_by_role("status", name="Answer")
        answer.get_by_text("Written:").wait_for()
        assert answer.locator(".bars li").count() == 2
        assert NAME in answer.inner_text()
        assert "Standard deviation" in answer.inner_text()
        assert answer.get_by_text("90 %:").count() == 2
        widths = [box["width"] for box in (bar.bounding_box() for bar in answer.locator(".bars .bar").all()) if box]
        assert widths[0] > widths[1] > 0
        tokens = answer.get_by_role("heading", name="Token by token").locator("xpath=..")
        (of_text,) = model.predict([{"review": "A lovely <b>film</b>."}], written_tokens=True)["written_tokens"]
        shown = [f"{item['token'].strip()}\n{100 * item['probability']:.1f} %" for item in json.loads(of_text)]
        assert [text.strip() for text in tokens.get_by_role("listitem").all_inner_texts()] == shown
        curve = answer.get_by_role("img", name="Curve of the distribution")
        assert curve.locator("path").get_attribute("d").count("V") == 99
        asked = {"review": "A lovely <b>film</b>."}
        of_row = model.predict([asked], quantiles=[0.05, 0.95])[["quantile_stars_0.05", "quantile_stars_0.95"]]
        low, high = of_row.iloc[0].map("{:g}".format)
        assert f"at most {low} with a probability of 5 %" in answer.inner_text()
        assert f"{high} of 95 %" in answer.inner_text()

        page.get_by_label("Rows, with").fill('id\treview\n1\t"A ""dull"", cold\nfilm"\n2\t<i>warm</i>\n')
        page.get_by_role("button", name="Predict the table").click()
        page.get_by_text("2 of 2 rows have an answer.").wait_for()
        assert page.locator("#rows tbody tr").count() == 2
        assert page.locator("#rows i, #answer b, img").count() == 0
        with page.expect_download() as download:
            page.get_by_role("button", name="Download as CSV").click()
        download.value.save_as(tmp_path / "answers.csv")
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        assert said == []
    with open(tmp_path / "answers.csv", newline="", encoding="utf-8") as file:
        first, second = csv.DictReader(file)
    assert (first["id"], first["review"]) == ("1", 'A "dull", cold\nfilm')
    assert second["prediction_mood"] in ("good", NAME)
    assert 0 <= float(second["prediction_stars"]) <= 6


@needs_chromium
@pytest.mark.slow
def test_what_is_wrong_with_a_table_is_said(address: str) -> None:
    with browser_page(390) as (page, said):
        page.goto(address)
        page.get_by_label("API key").fill(KEY)
        page.keyboard.press("Enter")
        for table, message in (
            ("", "Paste a table first."),
            ("revew\na", "The first line lacks review; it has revew."),
            ("review", "There is no row below the columns' names."),
            ("id,review\n1,a\n2", "Row 2 has 1 cells, the first line 2."),
        ):
            page.get_by_label("Rows, with").fill(table)
            page.get_by_role("button", name="Predict the table").click()
            page.get_by_text(message).wait_for()
        assert said == []
        page.goto(f"{address}/docs")
        assert page.get_by_role("heading", name="POST /v1/predict").is_visible()
        assert page.evaluate("document.documentElement.scrollWidth") <= 390
        assert said == []


@needs_chromium
@needs_axe
@pytest.mark.slow
@pytest.mark.parametrize("width", [1280, 390])
def test_axe_finds_nothing_grave_in_any_state_of_the_page(address: str, width: int) -> None:
    with browser_page(width) as (page, _):

        def clean(state: str) -> None:
            assert grave_faults(page) == [], state

        page.goto(address)
        clean("locked")
        page.get_by_label("API key").fill("wrong")
        page.keyboard.press("Enter")
        page.get_by_role("alert").get_by_text("The server does not know this key.").wait_for()
        clean("a wrong key")
        page.get_by_label("API key").fill(KEY)
        page.keyboard.press("Enter")
        page.get_by_label("review").wait_for()
        clean("empty")
        page.get_by_label("review").fill("A lovely film.")
        page.get_by_role("button", name="Predict", exact=True).click()
        page.get_by_role("img", name="Curve of the distribution").wait_for()
        assert page.locator(".bars li").count() == 2
        clean("a label and a number")
        page.get_by_label("review").fill("a" * 100_001)
        page.get_by_role("button", name="Predict", exact=True).click()
        page.locator("#answer .error").wait_for()
        clean("a refused row")
        page.get_by_label("Rows, with").fill("review,x\ngood,1\nbad,2\n")
        page.get_by_role("button", name="Predict the table").click()
        page.get_by_text("2 of 2 rows have an answer.").wait_for()
        clean("a table")
        page.get_by_label("Rows, with").fill("revew\ngood\n")
        page.get_by_role("button", name="Predict the table").click()
        page.get_by_text("The first line lacks review").wait_for()
        clean("a refused table")
        page.goto(f"{address}/docs")
        clean("the page about the routes")


@needs_chromium
@needs_axe
@pytest.mark.slow
def test_axe_finds_nothing_grave_on_a_report(model: predgen.Model, tmp_path: Path) -> None:
    model.save(tmp_path / "model")
    page_file = tmp_path / "report.html"
    table = reviews(30, seed=2)
    table["mood"] = table["mood"].replace("bad", NAME)
    table.to_csv(tmp_path / "rows.csv", index=False)
    done = run("report", tmp_path / "model", tmp_path / "rows.csv", "--out", page_file, "--quiet")
    assert done.code == 0, done
    with browser_page(1280) as (page, _):
        page.goto(page_file.as_uri())
        assert grave_faults(page) == []


@needs_chromium
@needs_axe
@pytest.mark.slow
def test_axe_is_not_blind_to_what_is_wrong() -> None:
    with browser_page(800) as (page, _):
        page.set_content("<html lang=en><title>t</title><main><h1>t</h1><input><img src='data:,'></main>")
        assert {fault.split()[0] for fault in grave_faults(page)} == {"label", "image-alt"}


@needs_chromium
@pytest.mark.slow
def test_the_keyboard_alone_is_enough(address: str) -> None:
    with browser_page(1280) as (page, said):
        page.goto(address)
        press, write = page.keyboard.press, page.keyboard.type

        def go_to(wanted: str, key: str = "Tab") -> None:
            """Presses a key until an element has the focus, which is to be seen there; each stop on the way, too."""
            for _ in range(30):
                press(key)
                name, outline = page.evaluate(
                    "(() => { const on = document.activeElement; return ["
                    "on.labels && on.labels.length ? on.labels[0].textContent : on.textContent,"
                    " getComputedStyle(on).outlineStyle]; })()"
                )
                assert outline == "solid", name
                if name == wanted:
                    return
            raise AssertionError(f"no way to '{wanted}'")

        go_to("API key")
        write(KEY)
        press("Enter")
        page.get_by_label("review").wait_for()
        go_to("Model")
        press("ArrowDown")
        assert page.get_by_label("Model").input_value() == "again"
        go_to("review")
        write("A lovely film.")
        go_to("standard deviation")
        press("Space")
        go_to("Predict")
        press("Enter")
        answer = page.get_by_role("status", name="Answer")
        answer.get_by_text("Written:").wait_for()
        assert "Standard deviation" not in answer.inner_text()
        assert "at most" in answer.inner_text()
        go_to("Rows, with the columns' names above them")
        write("review,x")
        press("Enter")
        write("good,1")
        go_to("Predict the table")
        press("Space")
        page.get_by_text("1 of 1 rows have an answer.").wait_for()
        go_to("Download as CSV")
        go_to("review", "Shift+Tab")  # there is a way back
        assert said == []
