"""Runs that are resumed, spread, and survive what fails."""

import os
import signal
import threading
from dataclasses import replace
from pathlib import Path

import pytest

from bsqcodec.errors import InputError
from bsqcodec.evaluation.cache import Cache
from bsqcodec.evaluation.runner import Progress, cluster, local_jobs, plan, run
from bsqcodec.evaluation.sources import Item, Kind, find_items
from bsqcodec.evaluation.trial import Result

from .fakes import StoringCodec


@pytest.fixture
def codec(tmp_path: Path) -> StoringCodec:
    trace = tmp_path / "trace"
    trace.mkdir()
    return StoringCodec(trace)


def without_times(results: tuple[Result, ...]) -> list[Result]:
    return [replace(result, encode_seconds=0, decode_seconds=0) for result in results]


def test_a_second_run_answers_from_the_cache(thumbnails: Path, codec: StoringCodec, tmp_path: Path) -> None:
    trials, _ = plan(find_items([thumbnails]), [codec])
    cache = Cache(tmp_path / "cache")
    first = run(trials, cache=cache)
    second = run(trials, cache=cache)
    assert codec.encodes() == 12
    assert (first.cached, second.cached) == (0, 12)
    assert first.results == second.results


def test_a_stopped_run_goes_on(thumbnails: Path, codec: StoringCodec, tmp_path: Path) -> None:
    trials, _ = plan(find_items([thumbnails]), [codec])
    cache = Cache(tmp_path / "cache")

    def stop(progress: Progress) -> None:
        if progress.done == 5:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(trials, cache=cache, on_progress=stop)
    outcome = run(trials, cache=cache)
    assert outcome.cached == 5
    assert codec.encodes() == 12
    assert len(outcome.results) == 12


def test_another_version_setting_or_file_is_not_taken_from_the_cache(
    thumbnails: Path, codec: StoringCodec, tmp_path: Path
) -> None:
    cache = Cache(tmp_path / "cache")
    (item, other, _) = find_items([thumbnails])
    run(plan([item], [codec])[0], cache=cache)
    for changed in (
        plan([item], [replace(codec, release="2")])[0],
        plan([replace(other, name=item.name)], [codec])[0],
        plan([replace(item, size=(20, 30))], [codec])[0],
    ):
        assert run(changed, cache=cache).cached == 0
    assert run(plan([replace(item, name="renamed")], [codec])[0], cache=cache).results[0].item == "renamed"
    assert codec.encodes() == 16


def test_a_damaged_cache_file_is_made_again(thumbnails: Path, codec: StoringCodec, tmp_path: Path) -> None:
    cache = Cache(tmp_path / "cache")
    trials, _ = plan(find_items([thumbnails])[:1], [codec])
    run(trials, cache=cache)
    for file in (tmp_path / "cache").rglob("*.json"):
        file.write_text(file.read_text()[:50])
    assert run(trials, cache=cache).cached == 0
    assert run(trials, cache=cache).cached == 4


def test_a_failure_is_reported_and_ends_nothing(thumbnails: Path, codec: StoringCodec) -> None:
    trials, _ = plan(find_items([thumbnails]), [replace(codec, fails_on="p1")])
    seen: list[Progress] = []
    outcome = run(trials, on_progress=seen.append)
    assert len(outcome.results) == 11
    (failure,) = outcome.failures
    assert (failure.item, failure.value) == ("p1", 4)
    assert failure.reason == "unexpected ZeroDivisionError: no luck"
    assert [progress.done for progress in seen] == list(range(13))
    assert seen[-1].failed == 1
    assert seen[0].seconds_left is None
    assert seen[6].seconds_left is not None
    assert seen[-1].seconds_left == 0


def test_an_unreadable_file_is_reported(tmp_path: Path, codec: StoringCodec) -> None:
    trials, failures = plan([Item("gone", tmp_path / "gone.png", Kind.STILL)], [codec])
    assert trials == []
    assert "gone.png: cannot be read" in failures[0].reason


def test_times_are_the_codecs_own(thumbnails: Path, codec: StoringCodec) -> None:
    trials, _ = plan(find_items([thumbnails])[:1], [replace(codec, seconds=0.05)])
    (result, *_) = run(trials[:1]).results
    assert result.encode_seconds >= 0.05
    assert result.machine


@pytest.mark.slow
def test_two_processes_give_the_same_results(thumbnails: Path, codec: StoringCodec) -> None:
    trials, _ = plan(find_items([thumbnails]), [codec])
    alone = run(trials)
    with local_jobs(2) as executor:
        spread = run(trials, executor=executor)
    assert without_times(spread.results) == without_times(alone.results)


@pytest.mark.slow
def test_a_cluster_gives_the_same_results_though_a_worker_is_killed(
    thumbnails: Path, codec: StoringCodec
) -> None:
    """Two workers; one is killed while the trials run: what it was at goes to another."""
    from distributed import LocalCluster

    waiting = replace(codec, seconds=0.4)
    trials, _ = plan(find_items([thumbnails]), [waiting])
    alone = run(trials)
    with LocalCluster(  # type: ignore[no-untyped-call]
        n_workers=2, threads_per_worker=1, processes=True, dashboard_address=None
    ) as local:
        pids = [worker.process.process.pid for worker in local.workers.values()]
        killed: list[int] = []
        over = threading.Event()

        def kill() -> None:
            while waiting.encodes() < len(trials) + 2:
                if over.wait(0.02):
                    return
            os.kill(pids[0], signal.SIGKILL)
            killed.append(pids[0])

        killer = threading.Thread(target=kill)
        killer.start()
        try:
            with cluster(local.scheduler_address) as executor:
                spread = run(trials, executor=executor)
        finally:
            over.set()
            killer.join()
    assert killed, "a worker died while the trials ran"
    assert waiting.encodes() > 2 * len(trials), "what it was at was done again"
    assert spread.failures == ()
    assert without_times(spread.results) == without_times(alone.results)


@pytest.mark.slow
def test_no_scheduler_gets_a_clear_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bsqcodec.evaluation.runner.CLUSTER_PATIENCE", "1s")
    with pytest.raises(InputError, match="no Dask scheduler answers there"), cluster("tcp://127.0.0.1:9"):
        pass
