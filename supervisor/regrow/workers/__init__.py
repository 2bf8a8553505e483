"""OS processes and threads as supervised children: limits, causes of death, nothing left behind; no NATS needed."""

from regrow.workers.environment import Begun, cause_from_json, cause_to_json
from regrow.workers.errors import ChildError
from regrow.workers.process import Probe, Process, process_child
from regrow.workers.python import python_process
from regrow.workers.thread import Service, Thread, thread_child

__all__ = [
    "Begun",
    "ChildError",
    "Probe",
    "Process",
    "Service",
    "Thread",
    "cause_from_json",
    "cause_to_json",
    "process_child",
    "python_process",
    "thread_child",
]
