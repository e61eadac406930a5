"""The server: its routes, what it refuses, and that each of many clients has the answer that `Model.predict` gives."""

import asyncio
import json
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from fastapi.testclient import TestClient

import predgen
from predgen.errors import ConfigError, TrainingError
from predgen.serving.app import create_app
from predgen.serving.keys import Keys
from predgen.serving.limits import Limits
from predgen.serving.loading import load_models, named_folders, share_weights
from predgen.serving.rows import answers_of
from tests.helpers.tables import reviews

SMALL: dict[str, Any] = {"batch_size": 8, "max_steps": 2, "quiet": True, "device": "cpu"}
PREDICT = "/v1/predict"
NDJSON = {"Accept": "application/x-ndjson"}
KEY = "a-key-of-twenty-signs"
NUM_CLIENTS = 12
QUANTILES = ["quantile_0.05", "quantile_0.95"]
NOBODY: dict[str, Any] = {"model": "stars", "row": {"review": "a"}}
MOOD = {"review": "a", "place": "b"}


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Returns the artifacts of a calibrated number of one input and of a label of two."""
    place = tmp_path_factory.mktemp("models")
    table = reviews(60).assign(place=["north", "south"] * 30)
    predgen.fit(table, "stars", inputs=["review"], calibration=0.2, out=place / "stars", **SMALL)
    predgen.fit(table, "mood", inputs=["review", "place"], out=place / "mood", **SMALL)
    return {"stars": str(place / "stars"), "mood": str(place / "mood")}


@pytest.fixture(scope="module")
def models(folders: dict[str, str]) -> dict[str, predgen.Model]:
    return load_models(folders, device="cpu")


@pytest.fixture
def stars(models: dict[str, predgen.Model]) -> predgen.Model:
    return models["stars"]


@pytest.fixture
def client(models: dict[str, predgen.Model]) -> Iterator[TestClient]:
    with TestClient(create_app(models)) as client:
        yield client


@pytest.fixture
def serving(stars: predgen.Model) -> Iterator[Callable[..., TestClient]]:
    """Returns what starts a server of one model with some limits."""
    started: list[TestClient] = []

    def start(*, keys: Keys | None = None, **limits: Any) -> TestClient:
        app = create_app({"stars": stars}, limits=Limits(**limits), keys=keys)
        started.append(TestClient(app, raise_server_exceptions=False).__enter__())
        return started[-1]

    yield start
    for client in started:
        client.__exit__(None, None, None)


class Gate:
    """Lets a model answer when it is opened, and counts its predictions."""

    def __init__(self, model: predgen.Model, monkeypatch: pytest.MonkeyPatch) -> None:
        self.opened, self.reached, self.rows = threading.Event(), threading.Event(), list[int]()
        original = model.predict_encoded

        def predict(encoded: Any, *arguments: Any) -> pd.DataFrame:
            self.rows.append(len(encoded.table))
            self.reached.set()
            assert self.opened.wait(30)
            return original(encoded, *arguments)

        monkeypatch.setattr(model, "predict_encoded", predict)


@pytest.fixture
def gate(stars: predgen.Model, monkeypatch: pytest.MonkeyPatch) -> Iterator[Gate]:
    gate = Gate(stars, monkeypatch)
    yield gate
    gate.opened.set()


def expected(model: predgen.Model, rows: list[dict[str, Any]], **asked: Any) -> list[dict[str, Any]]:
    """Returns what `Model.predict` answers, each row by itself."""
    tables = [model.predict([row], **asked) for row in rows]
    columns = [name for name in tables[0].columns if name not in model.inputs]
    return [answers_of(table, columns)[0] for table in tables]


def same(found: list[dict[str, Any]], wanted: list[dict[str, Any]]) -> bool:
    """Returns whether answers are equal; numbers up to what a batch's rounding may change."""
    return len(found) == len(wanted) and all(
        one.keys() == other.keys()
        and all(
            one[name] == pytest.approx(cell, rel=1e-4, abs=1e-5) if isinstance(cell, float) else one[name] == cell
            for name, cell in other.items()
        )
        for one, other in zip(found, wanted, strict=True)
    )


def error_of(response: Any, status: int) -> tuple[str, str]:
    assert response.status_code == status, response.text
    (error,) = response.json().values()
    assert set(error) == {"type", "message"}
    return error["type"], error["message"]


def texts(number: int, seed: int = 7) -> list[str]:
    return list(reviews(number, seed)["review"])


# ---- answers


def test_answers_have_the_columns_and_cells_of_predict(client: TestClient, models: dict[str, predgen.Model]) -> None:
    rows: list[dict[str, Any]] = [{"review": text} for text in [*texts(3), "7"]]
    asked = {"std": True, "interval": 0.5, "quantiles": [0.05, 0.95]}
    response = client.post(PREDICT, json={"model": "stars", "rows": rows, **asked})
    assert response.status_code == 200, response.text
    found = response.json()
    assert found["model"] == "stars"
    assert list(found["answers"][0]) == ["prediction", "written", "invalid", "std", *QUANTILES, "low", "high"]
    assert same(found["answers"], expected(models["stars"], rows, **asked))


def test_a_request_may_ask_for_the_written_tokens_and_to_abstain(
    client: TestClient, models: dict[str, predgen.Model]
) -> None:
    rows: list[dict[str, Any]] = [{"review": text} for text in texts(3)]
    asked = {"written_tokens": True, "abstain_risk": 0.5, "abstain_delta": 0.4, "abstain_error": 2.0}
    response = client.post(PREDICT, json={"model": "stars", "rows": rows, **asked})
    assert response.status_code == 200, response.text
    found = response.json()["answers"]
    assert list(found[0]) == ["prediction", "written", "invalid", "abstained", "written_tokens"]
    wanted = models["stars"].predict(rows, **asked)
    assert [answer["abstained"] for answer in found] == wanted["abstained"].tolist()
    for answer, cell in zip(found, wanted["written_tokens"], strict=True):
        tokens = json.loads(cell)
        assert [item["token"] for item in answer["written_tokens"]] == [item["token"] for item in tokens]
        shares = [item["probability"] for item in tokens]
        assert [item["probability"] for item in answer["written_tokens"]] == pytest.approx(shares, rel=1e-4)

    row = {"review": 7, "place": True}
    found = client.post(PREDICT, json={"model": "mood", "row": row, "probabilities": True}).json()
    assert same(found["answers"], expected(models["mood"], [row], probabilities=True))
    assert sum(found["answers"][0][f"probability_{label}"] for label in ("good", "bad")) == pytest.approx(1)


def test_many_clients_each_have_their_own_answer(
    models: dict[str, predgen.Model], monkeypatch: pytest.MonkeyPatch
) -> None:
    batches: list[int] = []
    original = models["stars"].predict_encoded

    def predict(encoded: Any, *arguments: Any) -> pd.DataFrame:
        batches.append(len(encoded.table))
        return original(encoded, *arguments)

    rows = [{"review": text} for text in texts(2 * NUM_CLIENTS)]
    options: list[dict[str, Any]] = [{}, {"std": True}]
    wanted = [
        expected(models["stars"], [one, other], **options[number % 2])
        for number, (one, other) in enumerate(zip(rows[::2], rows[1::2], strict=True))
    ]
    monkeypatch.setattr(models["stars"], "predict_encoded", predict)
    with TestClient(create_app(models, limits=Limits(delay_ms=300.0))) as client:

        def ask(number: int) -> list[dict[str, Any]]:
            body = {"model": "stars", "rows": rows[2 * number : 2 * number + 2], **options[number % 2]}
            answers: list[dict[str, Any]] = client.post(PREDICT, json=body).json()["answers"]
            return answers

        with ThreadPoolExecutor(NUM_CLIENTS) as threads:
            found = list(threads.map(ask, range(NUM_CLIENTS)))
    assert all(map(same, found, wanted))
    assert len({json.dumps(answers) for answers in found}) == NUM_CLIENTS  # or the same answer for all would pass
    assert sum(batches) == len(rows)
    assert len(batches) < NUM_CLIENTS  # requests were gathered


def test_a_stream_has_a_line_for_each_row_in_order(
    client: TestClient, stars: predgen.Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stars.limits, "rows", 4)
    rows = [{"review": text} for text in texts(11)]
    response = client.post(PREDICT, json={"model": "stars", "rows": rows}, headers=NDJSON)
    assert response.headers["content-type"] == "application/x-ndjson"
    lines = response.text.splitlines()
    assert same([json.loads(line) for line in lines], expected(stars, rows))


def test_an_error_inside_a_stream_is_its_last_line(
    client: TestClient, stars: predgen.Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stars.limits, "rows", 2)
    original = stars.predict_encoded

    def predict(encoded: Any, *arguments: Any) -> pd.DataFrame:
        if "row 3" in encoded.table["review"].iloc[0]:
            raise TrainingError("a row does not fit")
        return original(encoded, *arguments)

    monkeypatch.setattr(stars, "predict_encoded", predict)
    rows = [{"review": f"row {number}"} for number in range(1, 6)]
    response = client.post(PREDICT, json={"model": "stars", "rows": rows}, headers=NDJSON)
    *answers, last = map(json.loads, response.text.splitlines())
    assert response.status_code == 200
    assert len(answers) == 2
    assert last == {"error": {"type": "TrainingError", "message": "a row does not fit"}}
    # What fails before the first line has a status.
    response = client.post(PREDICT, json={"model": "stars", "row": rows[2]}, headers=NDJSON)
    assert error_of(response, 503) == ("TrainingError", "a row does not fit")


def test_a_fault_hits_its_own_request_alone(
    serving: Callable[..., TestClient], stars: predgen.Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    original = stars.predict_encoded

    def predict(encoded: Any, *arguments: Any) -> pd.DataFrame:
        if any(encoded.table["review"] == "poison"):
            raise TrainingError("a row does not fit")
        return original(encoded, *arguments)

    monkeypatch.setattr(stars, "predict_encoded", predict)
    client = serving(delay_ms=300.0)
    with ThreadPoolExecutor(3) as threads:
        good, bad, fine = threads.map(
            lambda text: client.post(PREDICT, json={"row": {"review": text}}), ["good", "poison", "fine"]
        )
    assert (good.status_code, bad.status_code, fine.status_code) == (200, 503, 200)
    assert client.get("/ready").status_code == 200


# ---- what is refused


@pytest.mark.parametrize(
    ("body", "status", "kind", "message"),
    [
        (b"{", 400, "InvalidJson", "Expected a body of JSON"),
        (b'{"row":' + b"[" * 5000, 400, "InvalidJson", "recursion limit"),
        (b"[]", 422, "InvalidRequest", "Input should be an object"),
        ({"model": "stars"}, 422, "InvalidRequest", "either 'row' or 'rows', found both or none"),
        ({"row": {"review": "a"}}, 422, "InvalidRequest", "the name of a model in 'model', found none. Known: stars"),
        ({"model": "star", "row": {"review": "a"}}, 404, "UnknownModel", "Did you mean 'stars'?"),
        ({"model": "stars", "rows": []}, 422, "InvalidRequest", "1 to 1,000 rows in a request, found 0"),
        ({"model": "stars", "rows": [{"review": "a"}] * 1001}, 413, "TooManyRows", "found 1,001"),
        ({"model": "stars", "row": {"revew": "a"}}, 422, "UnknownNameError", "Did you mean 'review'?"),
        ({"model": "stars", "row": {}}, 422, "DataError", "the input columns review, found none"),
        ({"model": "mood", "row": {"review": "a"}}, 422, "UnknownNameError", "Unknown column 'place'"),
        ({"model": "stars", "rows": [{"review": "a"}, {}]}, 422, "DataError", "in row 2, column 'review'"),
        ({"model": "stars", "row": {"review": None}}, 422, "DataError", "found an empty cell"),
        ({"model": "stars", "row": {"review": ["a"]}}, 422, "InvalidRequest", "'row.review': a cell is text, a number"),
        ({"model": "stars", "row": {"review": "a" * 100_001}}, 422, "DataError", "at most 100,000 characters in row 1"),
        ({"model": "stars", "row": {"review": "a"}, "probability": True}, 422, "InvalidRequest", "at 'probability'"),
        ({"model": "stars", "row": {"review": "a"}, "probabilities": True}, 422, "ConfigError", "Ask for std"),
        ({"model": "stars", "row": {"review": "a"}, "interval": 1}, 422, "InvalidRequest", "less than 1"),
        ({"model": "mood", "row": {"review": "a", "place": "b"}, "interval": 0.5}, 422, "ConfigError", "calibrat"),
        ({**NOBODY, "abstain_risk": 1.0}, 422, "InvalidRequest", "'abstain_risk'"),
        ({**NOBODY, "abstain_risk": 0.1}, 422, "ConfigError", "Say --abstain-error 0.5"),
        ({**NOBODY, "quantiles": [0.5, 1.0]}, 422, "ConfigError", "above 0 and below 1 for quantiles, found 1"),
        ({**NOBODY, "quantiles": [0.5, 0.5]}, 422, "ConfigError", "each quantile once"),
        ({**NOBODY, "quantiles": [0.5] * 101}, 422, "ConfigError", "at most 100 quantiles, found 101"),
        ({**NOBODY, "quantiles": ["0.5"]}, 422, "InvalidRequest", "'quantiles.0'"),
        ({**NOBODY, "quantiles": 0.5}, 422, "InvalidRequest", "'quantiles'"),
        ({"model": "mood", "row": MOOD, "quantiles": [0.5]}, 422, "ConfigError", "Ask for probabilities instead"),
        (b'{"model": "stars", "row": {"review": NaN}}', 422, "DataError", "found NaN"),
        (b'{"model": "stars", "row": {"review": "\\ud800"}}', 400, "InvalidJson", "Expected a body of JSON"),
        (b'{"model": "stars", "row": {"review": "\xff"}}', 400, "InvalidJson", "Expected a body of JSON"),
    ],
    ids=lambda value: None if not isinstance(value, str) else value[:20],
)
def test_what_is_wrong_with_a_request_is_said(
    client: TestClient, body: Any, status: int, kind: str, message: str
) -> None:
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    found = error_of(client.post(PREDICT, content=content), status)
    assert found[0] == kind
    assert message in found[1]


def test_bodies_are_measured_whatever_they_claim(serving: Callable[..., TestClient]) -> None:
    client = serving(body_bytes=200)
    fits, large = b'{"row": {"review": "a"}}'.ljust(200), b'{"row": {"review": "a"}}'.ljust(201)
    sent: list[bytes] = []

    def pieces(body: bytes) -> Iterator[bytes]:
        for start in range(0, len(body), 50):
            sent.append(body[start : start + 50])
            yield sent[-1]

    assert client.post(PREDICT, content=fits).status_code == 200
    assert client.post(PREDICT, content=pieces(fits)).status_code == 200
    for body in (large, pieces(large)):
        assert error_of(client.post(PREDICT, content=body), 413)[0] == "BodyTooLarge"


def test_a_body_that_does_not_come_is_not_waited_for(stars: predgen.Model) -> None:
    app = create_app({"stars": stars}, limits=Limits(timeout_seconds=0.05))
    sent: list[Any] = []

    async def receive() -> Any:
        await asyncio.sleep(0.02)
        return {"type": "http.request", "body": b" ", "more_body": True}

    async def send(message: Any) -> None:
        sent.append(message)

    scope = {"type": "http", "method": "POST", "path": PREDICT, "headers": [], "query_string": b""}
    asyncio.run(app(scope, receive, send))
    assert [message.get("status") for message in sent] == [408, None]


def test_a_full_queue_says_when_to_ask_again(serving: Callable[..., TestClient], gate: Gate) -> None:
    client = serving(waiting_rows=3, delay_ms=0.0)
    two = {"rows": [{"review": "a"}, {"review": "b"}]}
    with ThreadPoolExecutor(2) as threads:
        working = threads.submit(client.post, PREDICT, json=two)
        assert gate.reached.wait(10)
        waits = threads.submit(client.post, PREDICT, json=two)
        wait_for(lambda: 'predgen_waiting_rows{model="stars"} 2.0' in client.get("/metrics").text)
        refused = client.post(PREDICT, json=two)
        assert error_of(refused, 429)[0] == "QueueFull"
        assert 1 <= int(refused.headers["Retry-After"]) <= 60
        gate.opened.set()
        assert (working.result().status_code, waits.result().status_code) == (200, 200)
    assert client.post(PREDICT, json=two).status_code == 200


def test_an_answer_that_takes_too_long_is_not_waited_for(serving: Callable[..., TestClient], gate: Gate) -> None:
    client = serving(timeout_seconds=0.2, delay_ms=0.0)
    one = {"row": {"review": "a"}}
    with ThreadPoolExecutor(2) as threads:
        late = list(threads.map(lambda _: client.post(PREDICT, json=one), range(2)))
    assert [error_of(response, 504)[0] for response in late] == ["TimedOut"] * 2
    gate.opened.set()
    wait_for(lambda: 'predgen_waiting_rows{model="stars"} 0.0' in client.get("/metrics").text)
    assert client.post(PREDICT, json=one).status_code == 200
    # Of the two that were late one was worked on; the other had not begun, and never did.
    assert gate.rows in ([1, 1], [2, 1])


def test_nobody_works_for_a_client_that_left(stars: predgen.Model, gate: Gate) -> None:
    app = create_app({"stars": stars}, limits=Limits(delay_ms=0.0))
    body = b'{"row": {"review": "a"}}'
    scope = {"type": "http", "method": "POST", "path": PREDICT, "headers": [], "query_string": b""}

    async def leave(after: Callable[[], bool]) -> None:
        messages = [{"type": "http.request", "body": body, "more_body": False}]

        async def receive() -> Any:
            while not messages and not after():
                await asyncio.sleep(0.01)
            return messages.pop() if messages else {"type": "http.disconnect"}

        async def send(_: Any) -> None:
            pass

        await app(scope, receive, send)

    async def both() -> None:
        await leave(gate.reached.is_set)  # the first is worked on, and the second waits behind it
        await leave(lambda: True)

    asyncio.run(both())
    gate.opened.set()
    with TestClient(app) as client:
        assert client.post(PREDICT, json={"row": {"review": "b"}}).status_code == 200
    assert gate.rows == [1, 1]


def wait_for(true: Callable[[], bool]) -> None:
    end = time.monotonic() + 10
    while not true():
        assert time.monotonic() < end
        time.sleep(0.01)


# ---- keys


def test_a_key_is_asked_for_where_there_is_data(serving: Callable[..., TestClient]) -> None:
    client = serving(keys=Keys([KEY]))
    header = {"Authorization": f"Bearer {KEY}"}
    for path in ("/", "/docs", "/openapi.json", "/health", "/ready"):
        assert client.get(path).status_code == 200, path
    for path in ("/v1/models", "/metrics", "/nothing"):
        response = client.get(path)
        assert error_of(response, 401)[0] == "Unauthorized"
        assert response.headers["WWW-Authenticate"] == "Bearer"
    assert client.get("/v1/models", headers=header).status_code == 200
    body = {"row": {"review": "a"}}
    assert client.post(PREDICT, json=body, headers={"Authorization": "Bearer wrong"}).status_code == 401
    assert client.post(PREDICT, json=body, headers=header).status_code == 200
    assert 'id="key"' in client.get("/").text


# ---- facts


def test_what_the_models_are(client: TestClient) -> None:
    found = client.get("/v1/models").json()
    stars, mood = found["models"]
    assert (stars["name"], stars["inputs"], stars["target"], stars["calibrated"]) == (
        "stars",
        ["review"],
        ["stars"],
        True,
    )
    assert mood["offers"] == {
        "probabilities": True,
        "std": False,
        "interval": False,
        "quantiles": False,
        "written_tokens": True,
    }
    assert mood["fields"][0]["probabilities"] == [["bad", "probability_bad"], ["good", "probability_good"]]
    assert found["limits"]["rows"] == 1000


def test_it_lives_and_is_ready_until_it_is_closed(models: dict[str, predgen.Model]) -> None:
    app = create_app(models)
    with TestClient(app) as client:
        assert client.get("/health").json() == {"status": "alive"}
        assert client.get("/ready").json() == {"status": "ready"}
        assert client.head("/ready").status_code == 200
    late = TestClient(app)  # without its own start
    assert error_of(late.get("/ready"), 503)[0] == "NotReady"
    assert error_of(late.post(PREDICT, json={"model": "stars", "row": {"review": "a"}}), 503)[0] == "Stopping"
    assert late.get("/health").status_code == 200


def test_metrics_count_what_was_done(client: TestClient) -> None:
    client.post(PREDICT, json={"model": "stars", "rows": [{"review": "a"}] * 3})
    client.post(PREDICT, json={})
    client.get("/a/path/of/ones/own")
    client.request("BREW", "/health")
    lines = client.get("/metrics").text.splitlines()
    for line in (
        'predgen_requests_total{method="POST",route="/v1/predict",status="200"} 1.0',
        'predgen_requests_total{method="POST",route="/v1/predict",status="422"} 1.0',
        'predgen_requests_total{method="GET",route="other",status="404"} 1.0',
        'predgen_requests_total{method="other",route="/health",status="405"} 1.0',
        'predgen_rows_total{model="stars"} 3.0',
        'predgen_batch_rows_sum{model="stars"} 3.0',
        'predgen_waiting_rows{model="stars"} 0.0',
        'predgen_request_seconds_count{route="/v1/predict"} 2.0',
    ):
        assert line in lines


def test_openapi_describes_every_route_and_its_examples_work(client: TestClient) -> None:
    api = client.get("/openapi.json").json()
    assert set(api["paths"]) == {"/v1/predict", "/v1/models", "/health", "/ready", "/metrics"}
    examples = api["paths"]["/v1/predict"]["post"]["requestBody"]["content"]["application/json"]["examples"]
    assert {"stars", "mood", "several rows"} == set(examples)
    for name, example in examples.items():
        value = {**example["value"], **({"interval": 0.5} if "interval" in example["value"] else {})}
        assert client.post(PREDICT, json=value).status_code == 200, name
    assert "rows" in api["components"]["schemas"]["PredictRequest"]["properties"]


def test_unknown_paths_and_methods_are_answered_as_json(client: TestClient) -> None:
    assert error_of(client.get("/nothing"), 404)[0] == "NotFound"
    assert error_of(client.get(PREDICT), 405)[0] == "MethodNotAllowed"


def test_a_mistake_in_the_server_is_said_without_its_details(
    serving: Callable[..., TestClient], stars: predgen.Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: Any) -> pd.DataFrame:
        raise ZeroDivisionError("a secret")

    monkeypatch.setattr(stars, "predict_encoded", broken)
    client = serving()
    kind, message = error_of(client.post(PREDICT, json={"row": {"review": "a"}}), 500)
    assert kind == "InternalError"
    assert "secret" not in message


# ---- models


def test_a_model_has_the_name_that_it_is_given(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a=b").mkdir()
    assert named_folders(["x/stars", "mood=y/stars", "a=b"]) == {"stars": "x/stars", "mood": "y/stars", "a=b": "a=b"}
    for twice in (["x/stars", "y/stars/"], ["=x"]):
        with pytest.raises(ConfigError, match="Expected a name of its own for each model"):
            named_folders(twice)
    with pytest.raises(ConfigError, match="at least one model"):
        create_app({})


def test_models_over_one_base_hold_its_weights_once(folders: dict[str, str], models: dict[str, predgen.Model]) -> None:
    alone = {name: predgen.load(folder, device="cpu") for name, folder in folders.items()}
    rows = [{"review": text, "place": "north"} for text in texts(4)]
    for name, model in models.items():
        asked = [{column: row[column] for column in model.inputs} for row in rows]
        pd.testing.assert_frame_equal(model.predict(asked), alone[name].predict(asked))
    shared = {name: weight.data_ptr() for name, weight in models["stars"].method.backbone.named_parameters()}
    mood = dict(models["mood"].method.backbone.named_parameters())
    same_place = [name for name, weight in mood.items() if shared.get(name) == weight.data_ptr()]
    own = [name for name in mood if name not in same_place]
    assert sum(mood[name].nbytes for name in same_place) > 0.9 * sum(weight.nbytes for weight in mood.values())
    assert all("lora_" in name for name in own)
    assert share_weights(alone["mood"], []) == 0
