"""Many trials: in this process, in several, on a cluster; resumed from the cache, no failure ending a run."""

import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Executor, Future, ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing import get_context

from bsqcodec.errors import BsqError, DependencyError, InputError
from bsqcodec.evaluation.cache import Cache
from bsqcodec.evaluation.codecs import Codec
from bsqcodec.evaluation.sources import Item, digest
from bsqcodec.evaluation.trial import Judges, Result, Trial, run_trial

CLUSTER_ATTEMPTS = 3
CLUSTER_PATIENCE = "20s"


@dataclass(frozen=True)
class Failure:
    """A trial that gave no result, and why, in one line. value: None where no setting could be tried."""

    item: str
    codec: str
    value: float | None
    reason: str

    @property
    def trial(self) -> str:
        return self.codec if self.value is None else f"{self.codec} at {self.value:g}"


@dataclass(frozen=True)
class Progress:
    """Trials done (cached and failed ones included) of all, and the seconds that the rest may take."""

    done: int
    total: int
    cached: int
    failed: int
    seconds_left: float | None


@dataclass(frozen=True)
class Outcome:
    """What a run gave, in the order of its trials."""

    results: tuple[Result, ...]
    failures: tuple[Failure, ...]
    cached: int


def plan(
    items: Sequence[Item], codecs: Sequence[Codec], judges: Judges | None = None
) -> tuple[list[Trial], list[Failure]]:
    """All trials of a set, item by item, and the items whose files cannot even be read."""
    versions = {codec.name: codec.version() for codec in codecs}
    trials: list[Trial] = []
    unreadable: list[Failure] = []
    for item in items:
        try:
            fingerprint = digest(item)
        except BsqError as error:
            unreadable += [Failure(item.name, codec.name, None, str(error)) for codec in codecs]
            continue
        trials += [
            Trial(item, fingerprint, codec, versions[codec.name], value, judges or Judges())
            for codec in codecs
            for value in codec.knob.values
        ]
    return trials, unreadable


def run(
    trials: Sequence[Trial],
    *,
    cache: Cache | None = None,
    executor: Executor | None = None,
    on_progress: Callable[[Progress], None] = lambda progress: None,
) -> Outcome:
    """Run what the cache does not hold; results enter it as they come, so that a stopped run can be resumed.

    executor: where trials run; None for this process.
    """
    done: dict[int, Result | Failure] = {}
    for index, trial in enumerate(trials):
        if cache is not None and (known := cache.get(trial)) is not None:
            done[index] = known
    cached, started = len(done), time.monotonic()

    def report() -> None:
        fresh = len(done) - cached
        spent = time.monotonic() - started
        left = spent / fresh * (len(trials) - len(done)) if fresh else None
        failed = sum(isinstance(outcome, Failure) for outcome in done.values())
        on_progress(Progress(len(done), len(trials), cached, failed, left))

    report()
    todo = {index: trial for index, trial in enumerate(trials) if index not in done}
    for index, outcome in _serial(todo) if executor is None else _spread(todo, executor):
        done[index] = outcome
        if cache is not None and isinstance(outcome, Result):
            cache.put(trials[index], outcome)
        report()
    ordered = [done[index] for index in range(len(trials))]
    return Outcome(
        tuple(outcome for outcome in ordered if isinstance(outcome, Result)),
        tuple(outcome for outcome in ordered if isinstance(outcome, Failure)),
        cached,
    )


def attempt(trial: Trial) -> Result | Failure:
    """run_trial, with whatever goes wrong as a Failure: a codec's fault must not end the others' run."""
    try:
        return run_trial(trial)
    except BsqError as error:
        reason = str(error)
    except Exception as error:
        reason = f"unexpected {type(error).__name__}: {error}"
    return Failure(trial.item.name, trial.codec.name, trial.value, reason)


def _serial(todo: dict[int, Trial]) -> Iterator[tuple[int, Result | Failure]]:
    for index, trial in todo.items():
        yield index, attempt(trial)


def _spread(todo: dict[int, Trial], executor: Executor) -> Iterator[tuple[int, Result | Failure]]:
    futures: dict[Future[Result | Failure], int] = {
        executor.submit(attempt, trial): index for index, trial in todo.items()
    }
    try:
        for future in as_completed(futures):
            index = futures[future]
            try:
                yield index, future.result()
            except BrokenProcessPool as error:
                raise InputError(
                    "a worker process died (out of memory?); what was done is kept, run again with fewer jobs"
                ) from error
            except Exception as error:  # the engine's own: a trial whose worker died too often
                trial = todo[index]
                reason = f"lost by its worker: {type(error).__name__}"
                yield index, Failure(trial.item.name, trial.codec.name, trial.value, reason)
    finally:
        for future in futures:
            future.cancel()


@contextmanager
def local_jobs(jobs: int) -> Iterator[Executor | None]:
    """An executor of so many processes of one thread each; None, for this process, where it is one."""
    if jobs == 1:
        yield None
        return
    with ProcessPoolExecutor(jobs, mp_context=get_context("spawn"), initializer=single_thread) as pool:
        yield pool


@contextmanager
def cluster(address: str) -> Iterator[Executor]:
    """The executor of a Dask scheduler, whose workers see the same paths and have the same bsqcodec.

    A trial whose worker dies is given to another one. DependencyError without the `cluster` extra, InputError
    where no scheduler answers.
    """
    try:
        from distributed import Client
    except ImportError as error:
        raise DependencyError("--cluster needs Dask: pip install 'bsqcodec[cluster]'") from error
    try:
        client = Client(address, timeout=CLUSTER_PATIENCE)  # type: ignore[no-untyped-call]
    except (OSError, ValueError) as error:
        raise InputError(f"{address}: no Dask scheduler answers there ({error})") from error
    with client:
        client.run(single_thread)
        executor: Executor = client.get_executor(pure=False, retries=CLUSTER_ATTEMPTS)  # type: ignore[no-untyped-call]
        yield executor


def single_thread() -> None:
    """One thread for the measures, in every worker: the workers are the parallelism."""
    import torch

    torch.set_num_threads(1)
