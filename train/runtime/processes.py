"""Several processes train one run: where they meet, how they join, which GPUs each takes."""

import contextlib
import dataclasses
import glob
import ipaddress
import os
import re
import socket
import sys
import time
from collections.abc import Mapping

from train.errors import PeerError, UserError, shown
from train.runtime import peers
from train.runtime.host import has_tpu
from train.runtime.peers import Place

NO_GPU = ('', '-1', 'NoDevFiles')  # names in CUDA_VISIBLE_DEVICES
PATIENCE = 10  # seconds without the coordinator, after which this process says what it waits for


def join(
  coordinator: str | None,
  count: int | None,
  index: int | None,
  *,
  init_timeout: int,
  heartbeat_timeout: int,
) -> None:
  """Joins the other processes of the run, if there are any, before any device is touched.

  coordinator, count, index: as the flags say, None for what Slurm, Open MPI or Cloud TPU must tell.
  init_timeout: seconds to wait for all processes to be there.
  heartbeat_timeout: seconds after which a silent process is taken for dead, and all others stop.

  Raises:
    UserError: the flags do not fit each other, or no process can listen at the coordinator.
    PeerError: process 0 does not come.
  """
  given = Place(coordinator or os.environ.get('JAX_COORDINATOR_ADDRESS'), count, index)
  if count == 1 or (given == Place() and not several(os.environ)):
    return
  place = complete(given, os.environ)
  settings = {}
  if place.coordinator:
    check(place)
    settings = meet(place, init_timeout)
  peers.join(place, init_timeout, heartbeat_timeout, **settings)


def several(environment: Mapping[str, str]) -> bool:
  """Returns whether Slurm, Open MPI or Cloud TPU started this as one of several processes."""
  if 'SLURM_STEP_NODELIST' in environment:  # a step of srun: a batch script alone is one process
    return int(environment.get('SLURM_NTASKS', 1)) > 1
  if 'OMPI_COMM_WORLD_SIZE' in environment:
    return int(environment['OMPI_COMM_WORLD_SIZE']) > 1
  if 'TPU_WORKER_HOSTNAMES' in environment:  # GKE
    slices = int(environment.get('MEGASCALE_NUM_SLICES', 1))
    return slices > 1 or ',' in environment['TPU_WORKER_HOSTNAMES']
  # A TPU VM's metadata server knows; jax.distributed.initialize asks it, also if there is one VM.
  asks = has_tpu() and 'TPU_SKIP_MDS_QUERY' not in environment
  return asks and environment.get('JAX_PLATFORMS', 'tpu').startswith('tpu')


# -------- who and where --------


def complete(given: Place, environment: Mapping[str, str]) -> Place:
  """Returns the place with what Slurm or Open MPI know of it, where the flags do not say it.

  Raises:
    UserError: nobody knows it.
  """
  found = Place()
  if 'SLURM_STEP_NODELIST' in environment:
    found = slurm(environment)
  elif 'OMPI_COMM_WORLD_SIZE' in environment:
    found = open_mpi(environment)
  elif given == found:  # Cloud TPU
    return found
  place = Place(
    given.coordinator or found.coordinator,
    found.count if given.count is None else given.count,
    found.index if given.index is None else given.index,
  )
  if place.coordinator is None and found.count:
    raise UserError(
      'several processes: this Open MPI does not say where process 0 is, so give'
      ' --coordinator_address=HOST:PORT, and the same --num_processes to all'
    )
  if None in dataclasses.astuple(place):
    raise UserError(
      'several processes: neither Slurm, Open MPI nor Cloud TPU started this one, so give all of'
      ' --coordinator_address, --num_processes and --process_id'
    )
  return place


def slurm(environment: Mapping[str, str]) -> Place:
  """Returns a task's place in a step of srun: process 0 is on the step's first node."""
  job, step = (int(environment.get(f'SLURM_{name}_ID', 0)) for name in ('JOB', 'STEP'))
  # As in 'node7', 'node7,gpu1', 'node[001-003,7],gpu1' or 'rack1-[1-4]-ib'.
  first = re.match(r'([^,\[]+)(?:\[(\d+)[^\]]*\]([^,\[]*))?', environment['SLURM_STEP_NODELIST'])
  host = ''.join(part or '' for part in first.groups()) if first else ''
  count, index = int(environment['SLURM_NTASKS']), int(environment['SLURM_PROCID'])
  return Place(f'{host}:{port(environment, job + step)}', count, index)


def open_mpi(environment: Mapping[str, str]) -> Place:
  """Returns a process' place under mpirun, beside which process 0 runs."""
  count, index = (int(environment[f'OMPI_COMM_WORLD_{name}']) for name in ('SIZE', 'RANK'))
  # As '1531576320.0;tcp://10.96.0.1,10.148.0.1:34911'; version 5 has none.
  contact = environment.get('OMPI_MCA_orte_hnp_uri', '')
  found = re.match(r'(\d+)\..*?(?:tcp://([^,:]+)|tcp6://\[([^,\]]+))', contact)
  if not found:
    return Place(None, count, index)
  host = found[2] or f'[{found[3]}]'
  return Place(f'{host}:{port(environment, int(found[1]) >> 12)}', count, index)


def port(environment: Mapping[str, str], job: int) -> int:
  """Returns a port that all processes of a job choose, and other jobs on the node hardly."""
  return int(environment.get('JAX_COORDINATOR_PORT', 61440 + job % 4096))


def check(place: Place) -> None:
  """Raises UserError unless the place is one of its processes, at HOST:PORT."""
  coordinator, count, index = dataclasses.astuple(place)
  if index is not None and count is not None and not 0 <= index < count:
    raise UserError(
      f'--process_id={index}: must be from 0 to {count - 1}, as --num_processes={count} says'
    )
  if not re.fullmatch(r'(\[[^\]]+\]|[^:\[\]]+):\d{1,5}', coordinator or ''):
    raise UserError(f'--coordinator_address={shown(coordinator)}: must be HOST:PORT')


# -------- where they meet --------


def meet(place: Place, init_timeout: int) -> dict[str, object]:
  """Waits for process 0, or checks that it can listen; returns settings of JAX's `initialize`."""
  settings: dict[str, object] = {'cluster_detection_method': 'deactivate'}
  if place.index == 0:
    settings['coordinator_bind_address'] = bind_address(place.coordinator or '')
  else:
    reach(place, init_timeout)
  if devices := choose_gpus(os.environ, visible_gpus(os.environ)):
    settings['local_device_ids'] = devices
  return settings


def bind_address(coordinator: str) -> str | None:
  """Returns the one address of this machine to listen on; None: JAX's choice, all of them.

  None where the name means this machine to itself alone (Debian has 127.0.1.1 for it), or an
  address that its interfaces do not know, as behind a cloud's NAT.

  Raises:
    UserError: the name does not resolve, or something else listens there.
  """
  host, number = _split(coordinator)
  try:
    family, kind, _, _, address = socket.getaddrinfo(host, number, type=socket.SOCK_STREAM)[0]
  except OSError as error:
    raise UserError(
      f'{_at(coordinator)}: {error.strerror}; it must be a name of process 0'
    ) from error
  if ipaddress.ip_address(address[0]).is_loopback and not _is_loopback(host):
    return None
  with socket.socket(family, kind) as probe:
    probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
      probe.bind(address)
    except OSError as error:
      if isinstance(error, PermissionError) or 'in use' in str(error):
        raise UserError(f'{_at(coordinator)}: process 0 cannot listen: {error.strerror}') from error
      return None
  return f'[{address[0]}]:{number}' if family == socket.AF_INET6 else f'{address[0]}:{number}'


def reach(place: Place, seconds: float) -> None:
  """Waits until process 0 listens: it may have been started later, and its name be made later.

  Raises:
    UserError: the name still does not resolve after `seconds`.
    PeerError: nobody answers there.
  """
  coordinator, count, index = dataclasses.astuple(place)
  began, told = time.monotonic(), False
  while (reason := _refusal(coordinator or '')) and time.monotonic() < began + seconds:
    if not told and time.monotonic() > began + PATIENCE:
      told = True
      print(
        f'process {index} of {count} waits for process 0 at {coordinator}: {reason.strerror}',
        file=sys.stderr,
      )
    time.sleep(1)
  if isinstance(reason, socket.gaierror):
    raise UserError(f'{_at(coordinator)}: {reason.strerror}, for {seconds} s (--init_timeout)')
  if reason:
    raise PeerError(
      f'process 0 of {count} does not listen at {coordinator}: {reason.strerror or reason}, for'
      f' {seconds} s (--init_timeout)'
    )


def _refusal(coordinator: str) -> OSError | None:
  """Returns why nobody answers there, None if somebody does."""
  try:
    with socket.create_connection(_split(coordinator), timeout=5):
      return None
  except OSError as error:
    return error


def _split(coordinator: str) -> tuple[str, int]:
  host, _, number = coordinator.rpartition(':')
  return host.strip('[]'), int(number)


def _at(coordinator: str | None) -> str:
  return f'--coordinator_address={coordinator}'


def _is_loopback(host: str) -> bool:
  with contextlib.suppress(ValueError):
    return ipaddress.ip_address(host).is_loopback
  return host.partition('.')[0] == 'localhost' or host.startswith('ip6-')


# -------- the GPUs of a node --------


def visible_gpus(environment: Mapping[str, str]) -> int:
  """Returns how many GPUs this process sees, told from files, without importing JAX."""
  visible = environment.get('CUDA_VISIBLE_DEVICES')
  if visible is not None:
    return len([name for name in visible.split(',') if name.strip() not in NO_GPU])
  return len(glob.glob('/dev/nvidia[0-9]*'))


def choose_gpus(environment: Mapping[str, str], visible: int) -> list[int] | None:
  """Returns which of the GPUs that this task of Slurm or Open MPI sees it takes; None for all.

  JAX alone would take the one whose number is the task's on its node: one of eight where a node has
  one task. Tasks that see the same GPUs share them evenly; what that leaves over is told.

  Raises:
    UserError: fewer GPUs than tasks.
  """
  tasks, task = tasks_of_node(environment)
  if not visible or tasks == 1 or 'JAX_LOCAL_DEVICE_IDS' in environment:
    return None if 'JAX_LOCAL_DEVICE_IDS' in environment else list(range(visible)) or None
  whole = int(environment.get('SLURM_GPUS_ON_NODE', 0) or 0)
  if visible < (whole or tasks):  # Slurm gave each task GPUs of its own
    return list(range(visible))
  each = visible // tasks
  if not each:
    raise UserError(f'{tasks} tasks on a node of {visible} GPUs: start at most one task for a GPU')
  if visible % tasks and task == 0:
    print(
      f'{visible} GPUs of this node for {tasks} tasks: each takes {each},'
      f' {visible - each * tasks} stay unused',
      file=sys.stderr,
    )
  return list(range(task * each, (task + 1) * each))


def tasks_of_node(environment: Mapping[str, str]) -> tuple[int, int]:
  """Returns how many tasks of the run its launcher started on this node, and which this is."""
  if 'OMPI_COMM_WORLD_LOCAL_SIZE' in environment:
    size, rank = (environment[f'OMPI_COMM_WORLD_LOCAL_{name}'] for name in ('SIZE', 'RANK'))
    return int(size), int(rank)
  # As '2(x3),1' for nodes of 2, 2, 2 and 1 tasks.
  counts = [
    int(number)
    for number, times in re.findall(
      r'(\d+)(?:\(x(\d+)\))?', environment.get('SLURM_STEP_TASKS_PER_NODE', '1')
    )
    for _ in range(int(times or 1))
  ]
  return counts[int(environment.get('SLURM_NODEID', 0))], int(environment.get('SLURM_LOCALID', 0))
