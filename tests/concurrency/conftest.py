"""The engine of tests/jobs, on rows that other connections see."""

from tests.jobs import conftest as jobs

simulator_process, simulator = jobs.simulator_process, jobs.simulator
door, time, engine = jobs.door, jobs.time, jobs.engine
