"""The Python worker: it has one task of the workflow, and says nothing of the others."""

import statistics
from typing import Any

from hatchet_sdk import Context, EmptyModel, Hatchet

hatchet = Hatchet()
sizes = hatchet.workflow(name="sizes")
others = hatchet.stubs.workflow(name="sizes")


@others.task(name="measure")
def measure(input: EmptyModel, ctx: Context) -> dict[str, Any]:
    raise NotImplementedError("it is in Go")


@sizes.task(name="statistics")
def compute(input: EmptyModel, ctx: Context) -> dict[str, Any]:
    measured = ctx.task_output(measure)["sizes"]
    return {
        "count": len(measured),
        "mean": statistics.fmean(measured),
        "median": statistics.median(measured),
        "deviation": statistics.pstdev(measured),
    }


if __name__ == "__main__":
    hatchet.worker("python", workflows=[sizes]).start()
