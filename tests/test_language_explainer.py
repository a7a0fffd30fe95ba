"""The language model explainer against a server on this machine that says what each test wants it to say."""

import email.utils
import json
import os
import re
import signal
import threading
import time
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import numpy as np
import pytest

from sae_core import language_explainer
from sae_core.cli import main
from sae_core.errors import SaeCoreError
from sae_core.interpretability import KINDS, Examples, Windows
from sae_core.language_explainer import Answers, Malformed, Unit, endpoint, estimate, explain

SECRET = "sk-a-secret-of-this-test"
PIECES = [b"the", b" cat", b"\n", b" sat", b"</script>", b"\xd8"]
CAT = 1


def completion(content):
    answer = {"choices": [{"message": {"role": "assistant", "content": content}}]}
    return 200, {}, json.dumps({**answer, "usage": {"prompt_tokens": 7, "completion_tokens": 3}})


def oracle(messages):
    """Explains every unit by the cat, and predicts 9 on every cat and 0 elsewhere."""
    if "explanation" in messages[0]["content"]:
        return completion('{"explanation": "the word  cat"}')
    found = re.findall(r"^(\d+): (.*)$", messages[1]["content"], re.M)
    return completion(json.dumps({i: [9 * (t == " cat") for t in json.loads(tokens)] for i, tokens in found}))


class Stub:
    """A server; `script` holds functions of the messages for the next requests, and then come the oracle's answers."""

    def __init__(self):
        self.script, self.bodies, self.headers = [], [], []
        stub = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self):
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                stub.bodies.append(body)
                stub.headers.append(dict(self.headers))
                answer = stub.script.pop(0) if stub.script else oracle
                status, headers, text = answer(body["messages"])
                self.send_response(status if self.path == "/v1/chat/completions" else 404)
                for name, value in {"Content-Length": str(len(text.encode())), **headers}.items():
                    self.send_header(name, value)
                self.end_headers()
                with suppress(BrokenPipeError):  # who asked may have gone
                    self.wfile.write(text.encode())

            def log_message(self, *_):
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}/v1"
        threading.Thread(target=self.server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()

    def then(self, *answers):
        self.script += [answer if callable(answer) else lambda _, answer=answer: answer for answer in answers]


@pytest.fixture
def stub(monkeypatch):
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    monkeypatch.setenv("OPENAI_API_KEY", SECRET)
    stub = Stub()
    yield stub
    stub.server.shutdown()
    stub.server.server_close()


@pytest.fixture
def waits(monkeypatch):
    """The seconds that were waited for, without waiting."""
    waits = []
    monkeypatch.setattr(language_explainer, "sleep", waits.append)
    return waits


def windows(n, seed):
    rng = np.random.default_rng(seed)
    tokens = rng.integers(0, len(PIECES), (n, 9))
    levels = np.where(tokens == CAT, 9, 0)
    return Windows(tokens, levels / 9, levels, rng.integers(0, len(KINDS), n), np.arange(n))


def units(n=1):
    logits = np.array([3.0, -1.0, 0.0, 5.0, -4.0, 1.0])
    return [Unit(f"A/1/{i}", Examples(i, 1.0, windows(12, i), windows(45, 100 + i)), logits) for i in range(n)]


@pytest.fixture
def answers(stub, tmp_path):
    return Answers(endpoint(stub.url, "stub-model"), tmp_path / "answers.jsonl")


def again(answers):
    """A second run with the same file."""
    return Answers(answers.endpoint, answers.path)


def test_explains_and_scores(stub, answers):
    first, second = explain(answers, units(2), PIECES)
    assert first == ("A/1/0", "the word cat", 1.0, None)
    assert second.name == "A/1/1" and second.score == 1.0
    assert len(stub.bodies) == 8  # an explanation and three parts of 45 windows, each
    assert {(body["model"], body["temperature"]) for body in stub.bodies} == {("stub-model", 0)}
    assert {headers["Authorization"] for headers in stub.headers} == {f"Bearer {SECRET}"}


def test_a_wrong_explanation_scores_less_and_a_constant_one_nothing(stub, answers):
    def constant(messages):
        n = len(re.findall(r"^\d+: ", messages[1]["content"], re.M))
        return completion(json.dumps({str(i): [1] * 9 for i in range(1, n + 1)}))

    stub.then(oracle, constant, constant, constant)
    assert next(explain(answers, units(), PIECES)).score == 0.0


def test_the_question_shows_the_examples_and_not_those_that_it_is_scored_on(stub, answers):
    (unit,) = units()
    list(explain(answers, [unit], PIECES))
    question = stub.bodies[0]["messages"][1]["content"]
    shown = [json.loads(line) for line in question.splitlines() if line.startswith("[[")]
    assert len(shown) == 12 and all(level == 9 * (token == " cat") for snippet in shown for token, level in snippet)
    names = ["the", " cat", "⏎", " sat", "</script>", "\\xd8"]
    windows = unit.examples.explain
    expected = [
        [[names[token], level] for token, level in zip(tokens, levels, strict=True)]
        for tokens, levels in zip(windows.tokens.tolist(), windows.levels.tolist(), strict=True)
    ]
    assert sorted(shown) == sorted(expected)
    assert 'more likely: [" sat","the"' in question and 'less likely: ["</script>"," cat"' in question
    for body in stub.bodies[1:]:  # the simulator sees the sentence and tokens alone
        numbers = re.findall(r"\d+", body["messages"][1]["content"].replace("\\\\xd8", ""))
        assert set(numbers) <= set(map(str, range(1, 21)))


def test_the_order_of_the_windows_gives_nothing_away(stub, answers):
    """The protocol puts the strongest first; asked in that order, a model could learn the order."""
    (unit,) = units()
    list(explain(answers, [unit], PIECES))
    questions = "\n".join(body["messages"][1]["content"] for body in stub.bodies[1:])
    asked = [json.loads(tokens) for tokens in re.findall(r"^\d+: (.*)$", questions, re.M)]
    names = ["the", " cat", "⏎", " sat", "</script>", "\\xd8"]
    drawn = [[names[t] for t in window] for window in unit.examples.score.tokens]
    assert sorted(asked) == sorted(drawn) and asked != drawn


def test_asks_again_where_the_server_is_busy_and_waits_as_long_as_it_says(stub, answers, waits, caplog):
    date = email.utils.formatdate(time.time() + 100, usegmt=True)
    stub.then((429, {"Retry-After": "7"}, ""), (503, {}, "overloaded"), (429, {"Retry-After": date}, ""))
    stub.then((500, {"Retry-After": "soon"}, ""), (429, {"Retry-After": "0"}, ""))
    assert next(explain(answers, units(), PIECES)).score == 1.0
    assert waits[:2] == [7.0, 2.0] and 90 < waits[2] <= 100 and waits[3:] == [8.0, 16.0]
    assert len(stub.bodies) == 9
    said = [record.getMessage().partition("/v1: ")[2] for record in caplog.records]
    assert said[:2] == ["status 429; asking again in 7 s", "status 503 overloaded; asking again in 2 s"]
    assert len(said) == 5


def test_asks_again_after_a_timeout_and_a_cut_connection(stub, tmp_path, waits):
    def late(messages):
        time.sleep(1.5)
        return oracle(messages)

    stub.then(late, (200, {"Content-Length": "1000"}, "{"))
    answers = Answers(endpoint(stub.url, "stub-model", timeout=1.0), tmp_path / "answers.jsonl")
    assert next(explain(answers, units(), PIECES)).score == 1.0
    assert waits == [1.0, 2.0]


def test_gives_up_with_one_line(stub, answers, waits):
    stub.then(*[(503, {}, "all\nis \x1b[31mlost")] * 6)
    with pytest.raises(SaeCoreError, match="status 503 all is .*lost; run again later") as caught:
        list(explain(answers, units(), PIECES))
    assert waits == [1.0, 2.0, 4.0, 8.0, 16.0]
    assert "\n" not in str(caught.value) and "\x1b" not in str(caught.value)


def test_does_not_wait_for_an_hour(stub, answers, waits):
    stub.then((429, {"Retry-After": "3600"}, "quota"))
    with pytest.raises(SaeCoreError, match="429 quota; run again later"):
        list(explain(answers, units(), PIECES))
    assert waits == [] and len(stub.bodies) == 1


@pytest.mark.parametrize("status", [400, 401, 404, 301])
def test_a_refusal_is_final(stub, answers, waits, status):
    stub.then((status, {"Location": "/elsewhere"}, json.dumps({"error": {"message": f"no, {SECRET}, not you"}})))
    with pytest.raises(SaeCoreError, match=rf"status {status} no, \[key\], not you; check") as caught:
        list(explain(answers, units(), PIECES))
    assert SECRET not in str(caught.value) and caught.value.__cause__ is None
    assert waits == [] and len(stub.bodies) == 1


def test_a_page_that_is_no_endpoint_is_one_line(stub, answers):
    stub.then((200, {}, "<html>Welcome</html>"))
    with pytest.raises(SaeCoreError, match="no answer of a chat completion; check the URL"):
        list(explain(answers, units(), PIECES))
    assert not answers.path.exists()


def test_a_server_that_is_not_there_is_one_line(stub, tmp_path, waits):
    stub.server.server_close()
    answers = Answers(endpoint(stub.url, "stub-model", attempts=2), tmp_path / "answers.jsonl")
    with pytest.raises(SaeCoreError, match=r"no answer \([^<>]*refused\); run again later"):
        list(explain(answers, units(), PIECES))
    assert waits == [1.0]


GOOD = json.dumps({"1": [0] * 9, "2": [9] * 9})


@pytest.mark.parametrize(
    ("answer", "problem"),
    [
        ("Sure! " + GOOD, "not a JSON object"),
        (GOOD[:-1], "not a JSON object"),
        ("[" * 100_000, "not a JSON object"),
        ("", "not a JSON object"),
        (json.dumps([[0] * 9] * 2), "not a JSON object"),
        ('{"1": [0,0,0,0,0,0,0,0,0], "1": [0,0,0,0,0,0,0,0,0]}', "not a JSON object"),
        (json.dumps({"1": [0] * 9}), "snippets 1 to 2"),
        (json.dumps({"1": [0] * 9, "2": [0] * 9, "3": [0] * 9}), "snippets 1 to 2"),
        (json.dumps({"1": [0] * 9, "2": [0] * 8}), "snippet 2 has no list of 9"),
        (json.dumps({"1": [0] * 9, "2": "0" * 9}), "snippet 2 has no list of 9"),
        (json.dumps({"1": [0] * 9, "2": [10] + [0] * 8}), "values other than 0 to 9"),
        (json.dumps({"1": [0] * 9, "2": [-1] + [0] * 8}), "values other than 0 to 9"),
        (json.dumps({"1": [0] * 9, "2": [0.0] * 9}), "values other than 0 to 9"),
        (json.dumps({"1": [0] * 9, "2": [True] * 9}), "values other than 0 to 9"),
        (json.dumps({"1": [0] * 9, "2": ["0"] * 9}), "values other than 0 to 9"),
    ],
)
def test_predictions_in_another_form_are_refused(answer, problem):
    with pytest.raises(Malformed, match=problem):
        language_explainer.read_predictions(answer, (2, 9))


@pytest.mark.parametrize("fence", ["{}", "```json\n{}\n```", " ```\n{}\n```\n", "\n{}\n"])
def test_a_fence_is_form(fence):
    assert language_explainer.read_predictions(fence.replace("{}", GOOD), (2, 9)).tolist() == [[0] * 9, [9] * 9]


@pytest.mark.parametrize(
    "answer",
    ['{"explanation": ""}', '{"explanation": 3}', '{"explanation": "a", "more": "b"}', "the word cat", '"cat"',
     json.dumps({"explanation": "x" * 601}), json.dumps({"explanation": "\x1b[31m"}), '{"explanation": "\\ud800"}'],
)  # fmt: skip
def test_explanations_in_another_form_are_refused(answer):
    with pytest.raises(Malformed, match="^malformed explanation: "):
        language_explainer.read_explanation(answer)


def test_malformed_answers_are_counted_and_the_others_go_on(stub, answers):
    stub.then(completion("I think it is cats"), oracle, oracle, completion('{"1": [9]}'), completion(None))
    results = list(explain(answers, units(3), PIECES))
    assert [result.score for result in results] == [None, None, None]
    assert [result.explanation for result in results] == [None, "the word cat", None]
    assert results[0].problem == "A/1/0: malformed explanation: it is not a JSON object"
    assert results[1].problem == "A/1/1: malformed prediction: it is not about the snippets 1 to 20"
    assert results[2].problem == "A/1/2: malformed explanation: it is not a JSON object"
    asked = len(stub.bodies)
    assert list(explain(again(answers), units(3), PIECES)) == results  # a second run pays for none of it
    assert len(stub.bodies) == asked


def test_a_second_run_goes_on_where_the_first_was_interrupted(stub, answers, waits):
    stub.then(*[oracle] * 6, *[(500, {}, "")] * 6)
    with pytest.raises(SaeCoreError, match="what was answered is kept"):
        list(explain(answers, units(3), PIECES))
    assert len(answers.path.read_text().splitlines()) == 6
    asked = len(stub.bodies)
    results = list(explain(again(answers), units(3), PIECES))
    assert len(stub.bodies) - asked == 12 - 6
    assert [result.score for result in results] == [1.0, 1.0, 1.0]
    assert list(explain(again(answers), units(3), PIECES)) == results
    assert len(stub.bodies) - asked == 12 - 6
    seen = [json.dumps(body) for i, body in enumerate(stub.bodies) if not 6 <= i < asked]
    assert len(seen) == len(set(seen)) == 12


def test_settings_go_along_with_each_request(stub, tmp_path):
    """Some models refuse a temperature; others want a limit."""
    server = endpoint(stub.url, "stub-model", settings={"max_completion_tokens": 500})
    list(explain(Answers(server, tmp_path / "answers.jsonl"), units(), PIECES))
    assert all(set(body) == {"model", "messages", "max_completion_tokens"} for body in stub.bodies)
    with pytest.raises(SaeCoreError, match="settings of requests"):
        endpoint(stub.url, "stub-model", settings=[3])


def test_another_model_is_asked_anew(stub, answers):
    list(explain(answers, units(), PIECES))
    list(explain(Answers(endpoint(stub.url, "another"), answers.path), units(), PIECES))
    assert [body["model"] for body in stub.bodies] == ["stub-model"] * 4 + ["another"] * 4
    assert len(answers.path.read_text().splitlines()) == 8


def test_an_answer_is_on_the_disk_before_the_next_is_asked_for(stub, answers):
    kept = []

    def look(messages):
        kept.append(len(answers.path.read_text().splitlines()) if answers.path.exists() else 0)
        return oracle(messages)

    stub.then(*[look] * 4)
    list(explain(answers, units(), PIECES))
    assert kept == [0, 1, 2, 3]
    assert [path.name for path in answers.path.parent.iterdir()] == ["answers.jsonl"]


@pytest.mark.parametrize("line", ["{not ours", "[]", '{"request": "a"}', "3"])
def test_a_file_of_something_else_is_one_line_and_untouched(stub, answers, line):
    answers.path.write_text(line + "\n")
    with pytest.raises(SaeCoreError, match="line 1 is no answer"):
        again(answers)
    assert answers.path.read_text() == line + "\n"


def test_the_estimate_asks_nothing_and_what_is_kept_costs_nothing(stub, answers):
    first = estimate(units(2), PIECES)
    assert stub.bodies == [] and first == estimate(units(2), PIECES, answers)
    assert first.requests == 8 and first.tokens_in > 8 * 300 and first.tokens_out > 2 * 45 * 9
    assert first.dollars(2.0, 10.0) == pytest.approx((2 * first.tokens_in + 10 * first.tokens_out) / 1e6)
    list(explain(answers, units(1), PIECES))
    rest = estimate(units(2), PIECES, again(answers))
    assert rest.requests == 4 and 0.3 < rest.tokens_in / first.tokens_in < 0.7
    list(explain(answers, units(2), PIECES))
    assert estimate(units(2), PIECES, again(answers)) == (0, 0, 0)


def test_the_estimate_is_of_what_is_then_sent(stub, answers):
    expected = estimate(units(3), PIECES)
    list(explain(answers, units(3), PIECES))
    sent = sum(len(m["content"].encode()) for body in stub.bodies for m in body["messages"])
    assert expected.requests == len(stub.bodies)
    assert sent / 4 < expected.tokens_in < sent / 2


@pytest.mark.parametrize("key", [None, "", "  "])
def test_without_a_key_nothing_is_asked(stub, answers, monkeypatch, key):
    monkeypatch.delenv("OPENAI_API_KEY") if key is None else monkeypatch.setenv("OPENAI_API_KEY", key)
    with pytest.raises(SaeCoreError, match="OPENAI_API_KEY is not set"):
        list(explain(answers, units(), PIECES))
    assert stub.bodies == []
    assert estimate(units(), PIECES, answers).requests == 4  # which needs none


@pytest.mark.parametrize("key", ["sk-two\nlines", "sk-ключ", "sk-\x00null"])
def test_a_broken_key_is_not_shown(stub, answers, monkeypatch, key):
    monkeypatch.setattr(language_explainer, "os", type("os", (), {"environ": {"OPENAI_API_KEY": key}}))
    with pytest.raises(SaeCoreError, match="characters that no key has") as caught:
        list(explain(answers, units(), PIECES))
    assert "sk-" not in str(caught.value) and stub.bodies == []


def test_the_key_is_nowhere(stub, answers, waits, tmp_path, capfd):
    """A server that repeats it in answers and in errors; the file, the results, the messages and the objects."""
    stub.then(completion(json.dumps({"explanation": f"the key {SECRET}"})), completion(f"Bearer {SECRET}"))
    results = list(explain(answers, units(), PIECES))
    assert results[0].explanation == "the key [key]"
    messages = [repr(results), repr(answers.endpoint), repr(vars(answers)), repr(estimate(units(), PIECES, answers))]
    stub.then(*[(500, {}, f"Bearer {SECRET}")] * 6, (400, {"X-Key": SECRET}, SECRET), (200, {}, SECRET))
    for _ in range(3):
        with pytest.raises(SaeCoreError) as caught:
            answers.ask([{"role": "user", "content": "?"}])
        messages.append(str(caught.value))
    for text in (*messages, *capfd.readouterr(), *(path.read_text() for path in tmp_path.iterdir())):
        assert SECRET not in text


def test_a_redirection_does_not_take_the_key_along(stub, answers):
    other = Stub()
    stub.then((307, {"Location": other.url + "/chat/completions"}, ""), (302, {"Location": other.url}, ""))
    for _ in range(2):
        with pytest.raises(SaeCoreError, match="status 30"):
            list(explain(answers, units(), PIECES))
    assert other.bodies == []
    other.server.shutdown()
    other.server.server_close()


def test_url_and_model_come_from_the_environment(monkeypatch):
    monkeypatch.setenv("SAE_CORE_EXPLAINER_URL", "http://localhost:8000/v1/")
    monkeypatch.setenv("SAE_CORE_EXPLAINER_MODEL", "small")
    assert (endpoint().url, endpoint().model) == ("http://localhost:8000/v1", "small")
    assert endpoint("https://example.org/v1", "large").url == "https://example.org/v1"
    monkeypatch.delenv("SAE_CORE_EXPLAINER_MODEL")
    with pytest.raises(SaeCoreError, match="SAE_CORE_EXPLAINER_MODEL"):
        endpoint()


@pytest.mark.parametrize(
    "url",
    ["localhost:8000", "file:///etc/passwd", "ftp://host/v1", "http://", "http://me:pass@host/v1", "http://h/v1?key=a",
     "http://h/v1#a", "http://h:port/v1", "http://[::1/v1", "http://h/a b", "http://h/\n"],
)  # fmt: skip
def test_a_url_that_is_none_is_refused_and_not_repeated(url):
    with pytest.raises(SaeCoreError, match="URL is not one") as caught:
        endpoint(url, "model")
    assert "pass@" not in str(caught.value)


# --- the command ----------------------------------------------------------------------------------------------------


@pytest.fixture(autouse=True, scope="module")
def text_in_use(small_text):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SAE_CORE_CORPUS", str(small_text))
        yield


@pytest.fixture(scope="module")
def dictionary(tmp_path_factory, small_text):
    folder = tmp_path_factory.mktemp("runs") / "A"
    text = f'text=[["{small_text}", null]]'
    small = ["n_ctx=32", "vocab_size=300", "batch_tokens=256", "passes=1", text]
    assert main(["pretrain", "--out", str(folder), "--set", *small]) == 0
    sizes = "d_sae=64 steps=10 batch_size=128 buffer_rows=4096 resample_at=[] lr=0.001".split()
    assert main(["train", "--model", str(folder), "--out", str(folder / "1"), "--repeat", "--set", *sizes]) == 0
    return folder / "1"


def test_the_command_estimates_and_then_explains(dictionary, stub, tmp_path, capsys):
    command = ["explain", str(dictionary), "--features", "3", "--tokens", "3000", "--prices", "100", "1000"]
    capsys.readouterr()
    assert main([*command, "--estimate"]) == 0
    first = capsys.readouterr().out
    n, read, write, cost = re.fullmatch(
        r"3 features, (\d+) requests to come, about ([\d,]+) tokens to read and ([\d,]+) to write: ([\d.]+)\n", first
    ).groups()
    dollars = (int(read.replace(",", "")) * 100 + int(write.replace(",", "")) * 1000) / 1e6
    assert stub.bodies == [] and float(cost) == pytest.approx(dollars, abs=0.01)
    stub.then(oracle, completion("cats, I guess"))
    asking = ["--url", stub.url, "--explainer", "stub-model", "--out", str(tmp_path / "answers.jsonl")]
    asking += ["--settings", '{"seed": 1}']
    assert main([*command, *asking]) == 0
    out, err = capsys.readouterr()
    assert out.startswith(first) and out.count("the word cat") == 2
    assert err.count("malformed prediction: it is not a JSON object") == 1 and len(err.splitlines()) == 1
    assert out.splitlines()[-1].startswith("2 features scored, median score ")
    assert out.endswith("; 1 with a malformed answer\n") and SECRET not in out + err
    assert all(body["seed"] == 1 and "temperature" not in body for body in stub.bodies)
    asked = len(stub.bodies)
    assert main([*command, *asking]) == 0
    again = capsys.readouterr()
    assert "3 features, 0 requests to come" in again.out and again.out.splitlines()[1:] == out.splitlines()[1:]
    assert len(stub.bodies) == asked


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ([], "give --out FILE"),
        (["--out", "a.jsonl"], "set SAE_CORE_EXPLAINER_URL"),
        (["--estimate", "--settings", "{temperature"], "{temperature is not JSON"),
        (["--estimate", "--features", "0"], "--features 1 or more"),
        (["--estimate", "--tokens", "31"], "--tokens enough"),
    ],
)
def test_the_command_says_what_is_missing_in_one_line(dictionary, monkeypatch, capsys, arguments, words):
    monkeypatch.setenv("OPENAI_API_KEY", SECRET)
    capsys.readouterr()
    with suppress(SystemExit):  # argparse's way, after a summary of the options
        assert main(["explain", str(dictionary), *arguments]) == 2
    message = capsys.readouterr().err
    assert words in message and (message.startswith("usage: ") or len(message.splitlines()) == 1)


def test_the_command_that_was_stopped_says_how_to_go_on(dictionary, stub, tmp_path, capsys):
    def stop(_):
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(5)  # until the signal has come to the main thread

    stub.then(oracle, oracle, stop)
    asking = ["--url", stub.url, "--explainer", "stub-model", "--out", str(tmp_path / "answers.jsonl")]
    asking += ["--tokens", "3000"]
    assert main(["explain", str(dictionary), *asking]) == 143
    assert "run the same command again" in capsys.readouterr().err
    assert len((tmp_path / "answers.jsonl").read_text().splitlines()) == 2


def test_the_command_misses_the_key_before_it_works(dictionary, stub, monkeypatch, tmp_path, capsys):
    monkeypatch.delenv("OPENAI_API_KEY")
    monkeypatch.setattr("sae_core.autoencoder.load_dictionary", None)  # nothing is loaded
    asking = ["--url", stub.url, "--explainer", "stub-model", "--out", str(tmp_path / "answers.jsonl")]
    capsys.readouterr()
    assert main(["explain", str(dictionary), *asking]) == 2
    assert "OPENAI_API_KEY is not set" in capsys.readouterr().err
