"""Results come in the jobs' order, and few jobs are taken before their results are."""

import math
from collections.abc import Iterator

import pytest

from omics_transformers.data_scripts.multiome_jobs import start_workers


def taking(taken: list[int], jobs: int) -> Iterator[int]:
    for job in range(jobs):
        taken.append(job)
        yield job


@pytest.mark.parametrize(("processes", "ahead"), [(1, 1), (2, 6)])
def test_results_come_in_order(processes: int, ahead: int) -> None:
    taken: list[int] = []
    with start_workers(processes) as workers:
        for number, result in enumerate(workers.results(math.factorial, taking(taken, 12))):
            assert result == math.factorial(number)
            assert len(taken) <= number + ahead
    assert taken == list(range(12))


@pytest.mark.parametrize("processes", [1, 2])
def test_an_error_of_a_job_is_raised(processes: int) -> None:
    with pytest.raises(ValueError, match="negative"), start_workers(processes) as workers:
        list(workers.results(math.factorial, [3, -1, 4]))
