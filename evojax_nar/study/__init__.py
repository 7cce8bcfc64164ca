"""Studies: tasks x models x arms on equal terms, resumable job by job, on one machine or many."""

from evojax_nar.study.job import run_job
from evojax_nar.study.plan import Job, check, expand, jobs, load
from evojax_nar.study.running import Ran, run
from evojax_nar.study.table import SCHEMA, collect, unequal

__all__ = [
    "SCHEMA",
    "Job",
    "Ran",
    "check",
    "collect",
    "expand",
    "jobs",
    "load",
    "run",
    "run_job",
    "unequal",
]
