"""`featstore review`, as a process."""

import json
import shlex
import signal
import subprocess
import sys
import urllib.request

import pytest
from click.testing import CliRunner

import featstore
from featstore_cli.main import main


def test_decisions_are_applied_after_the_review(small_demo):
    line = "review logistic --store digits.fstore --port 0 --most 3 --who Ada"
    command = [sys.executable, "-m", "featstore_cli", *shlex.split(line)]
    with subprocess.Popen(
        command, cwd=small_demo, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        told = process.stdout.readline()
        assert " to review on http://127.0.0.1:" in told, process.stderr.read()
        assert process.stdout.readline() == "decisions go to corrections.csv\n"
        address = told.split()[-1]
        with urllib.request.urlopen(f"{address}/queue", timeout=60) as answer:
            item = json.load(answer)["items"][0]
        body = {"content_hash": item["hash"], "decision": "relabel", "new": "other"}
        request = urllib.request.Request(
            f"{address}/decisions", json.dumps(body).encode(), {"content-type": "application/json"}
        )
        with urllib.request.urlopen(request, timeout=60) as answer:
            assert json.load(answer)["new"] == "other"
        process.send_signal(signal.SIGTERM)
        assert process.wait(120) == 0
        assert process.stdout.read() == (
            "1 image decided, 1 of them now; apply them with `featstore fit --corrections corrections.csv`\n"
        )
        assert process.stderr.read() == ""
    table = featstore.FeatureStore(small_demo / "digits.fstore").table(catalog="digits")
    right = featstore.correct_labels(table, featstore.read_corrections(small_demo / "corrections.csv"))
    assert right.y[table.content_hash == item["hash"]].tolist() == ["other"]
    assert (right.y != table.y).sum() == 1


@pytest.mark.parametrize(
    ("line", "code", "says"),
    [
        ("review ridge --host 0.0.0.0", 1, "0.0.0.0 can be reached from other machines: give a token"),
        ("review nothing --port 0", 2, "has no head 'nothing'; it has ridge"),
        ("review ridge --port 0 --corrections list.csv", 1, "list.csv is no file of corrections"),
        ("review ridge --port 0 --corrections none/c.csv", 1, "there is no folder"),
        ("review ridge --port 0 --corrections photos.fstore/c.csv", 1, "photos.fstore"),
        ("review ridge --port 0 --corrections .", 1, "is a folder; name the file of corrections"),
        ("review ridge --port 0 --most 0", 2, "--most"),
    ],
)
def test_what_cannot_be_reviewed_is_one_clear_line(photos, monkeypatch, line, code, says):
    monkeypatch.chdir(photos)
    result = CliRunner().invoke(main, shlex.split(line))
    assert result.exit_code == code, result.output
    assert says in " ".join(result.stderr.split())


@pytest.mark.parametrize(
    ("n_before", "n_new", "says"),
    [
        (0, 0, "no image decided"),
        (2, 0, "nothing decided now; 2 images are decided in corrections.csv from before; apply"),
        (
            2,
            1,
            "3 images decided, 1 of them now; apply them with `featstore fit --corrections corrections.csv`",
        ),
    ],
)
def test_what_was_decided_is_said_at_the_end(small_demo, tmp_path, monkeypatch, n_before, n_new, says):
    monkeypatch.chdir(tmp_path)
    store = small_demo / "digits.fstore"
    contents = featstore.FeatureStore(store).table(catalog="digits").content_hash[:3].tolist()
    decide = [featstore.Correction(content_hash=one, decision="exclude") for one in contents]
    for one in decide[:n_before]:
        featstore.record_correction(tmp_path / "corrections.csv", one)

    def run(session, bound, *, token, ready):
        for one in decide[n_before : n_before + n_new]:
            featstore.record_correction(session.path, one)

    monkeypatch.setattr("featstore.reviewing.review", run)
    result = CliRunner().invoke(main, shlex.split(f"review logistic --store {store} --port 0 --most 1"))
    assert result.exit_code == 0, result.output
    assert result.stdout.startswith(says)
