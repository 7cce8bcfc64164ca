"""Studies: tasks x models x arms on equal terms, resumable job by job, on one machine or many."""

from evojax_nar.study.gather import gather
from evojax_nar.study.job import finished, run_job
from evojax_nar.study.plan import CONFIG, Job, check, expand, jobs, load
from evojax_nar.study.running import Ran, run, write
from evojax_nar.study.table import SCHEMA, collect, unequal

__all__ = [
    "CONFIG",
    "SCHEMA",
    "Job",
    "Ran",
    "check",
    "collect",
    "expand",
    "finished",
    "gather",
    "jobs",
    "load",
    "run",
    "run_job",
    "unequal",
    "write",
]
