"""Where several processes meet, and which GPUs each takes: functions of the environment."""

import socket

import pytest

from train.errors import PeerError, UserError
from train.runtime import processes
from train.runtime.processes import Place


@pytest.mark.parametrize(
  ('variables', 'several'),
  [
    ({}, False),
    ({'SLURM_JOB_ID': 7, 'SLURM_NTASKS': 4}, False),  # in the batch script, outside of srun
    ({'SLURM_STEP_NODELIST': 'n[1-4]', 'SLURM_NTASKS': 4}, True),
    ({'SLURM_STEP_NODELIST': 'n1', 'SLURM_NTASKS': 1}, False),
    ({'OMPI_COMM_WORLD_SIZE': 2}, True),
    ({'TPU_WORKER_HOSTNAMES': 'localhost'}, False),
    ({'TPU_WORKER_HOSTNAMES': 'a,b'}, True),
    ({'TPU_WORKER_HOSTNAMES': 'a', 'MEGASCALE_NUM_SLICES': 2}, True),
  ],
)
def test_who_started_several_processes(variables, several):
  environment = {name: str(value) for name, value in variables.items()}
  assert processes.several({'JAX_PLATFORMS': 'cpu', **environment}) is several


# -------- where they meet --------


@pytest.mark.parametrize(
  ('nodes', 'first'),
  [
    ('node7', 'node7'),
    ('node7,gpu1', 'node7'),
    ('node[001-003,7],gpu1', 'node001'),
    ('node[5,9]', 'node5'),
    ('rack1-n[07-12]-ib', 'rack1-n07-ib'),
    ('127.0.0.[1-2]', '127.0.0.1'),
  ],
)
def test_a_step_of_slurm_meets_on_its_first_node(nodes, first):
  step = {'SLURM_STEP_NODELIST': nodes, 'SLURM_NTASKS': '4', 'SLURM_PROCID': '3'}
  ids = {'SLURM_JOB_ID': '4097', 'SLURM_STEP_ID': '2'}
  assert processes.slurm({**step, **ids}) == Place(f'{first}:61443', 4, 3)
  assert processes.slurm({**step, 'JAX_COORDINATOR_PORT': '5'}).coordinator == f'{first}:5'


@pytest.mark.parametrize(
  ('contact', 'coordinator'),
  [
    ('8192.0;tcp://10.96.0.1,10.148.0.1:34911', '10.96.0.1:61442'),
    ('8192.0;tcp6://[fe80::b9b,2620:10d::2]:43370', '[fe80::b9b]:61442'),
    ('', None),  # version 5
  ],
)
def test_processes_of_open_mpi_meet_beside_mpirun(contact, coordinator):
  size = {'OMPI_COMM_WORLD_SIZE': '2', 'OMPI_COMM_WORLD_RANK': '1'}
  environment = {**size, 'OMPI_MCA_orte_hnp_uri': contact}
  assert processes.open_mpi(environment) == Place(coordinator, 2, 1)


def test_flags_come_first_and_what_nobody_knows_is_asked_for():
  mpi = {'OMPI_COMM_WORLD_SIZE': '2', 'OMPI_COMM_WORLD_RANK': '1'}
  assert processes.complete(Place('host0:7', None, None), mpi) == Place('host0:7', 2, 1)
  with pytest.raises(UserError, match='Open MPI does not say where process 0 is'):
    processes.complete(Place(), mpi)
  with pytest.raises(UserError, match='give all of --coordinator_address, --num_processes and'):
    processes.complete(Place('localhost:1234', None, None), {})


@pytest.mark.parametrize(
  ('place', 'message'),
  [
    (Place('host0:7', 2, 2), '--process_id=2: must be from 0 to 1, as --num_processes=2 says'),
    (Place('host0', 2, 0), "--coordinator_address='host0': must be HOST:PORT"),
    (Place('::1:7', 2, 0), "--coordinator_address='::1:7': must be HOST:PORT"),
    (Place('host0:port', 2, 0), "--coordinator_address='host0:port': must be HOST:PORT"),
  ],
)
def test_a_place_that_cannot_be(place, message):
  with pytest.raises(UserError) as error:
    processes.check(place)
  assert str(error.value) == message


def test_process_0_listens_where_it_was_told_alone():
  with socket.create_server(('127.0.0.1', 0)) as server:
    number = server.getsockname()[1]
    with pytest.raises(UserError, match='process 0 cannot listen: Address already in use'):
      processes.bind_address(f'127.0.0.1:{number}')
  assert processes.bind_address(f'127.0.0.1:{number}') == f'127.0.0.1:{number}'
  assert processes.bind_address('192.0.2.1:7') is None  # an address of another machine: behind NAT


def test_a_name_that_means_this_machine_to_itself_alone(monkeypatch):
  """Others could not reach it there."""
  loopback = [(socket.AF_INET, socket.SOCK_STREAM, 6, '', ('127.0.1.1', 7))]
  monkeypatch.setattr(socket, 'getaddrinfo', lambda *args, **kwargs: loopback)
  assert processes.bind_address('node7:7') is None
  assert processes.bind_address('localhost:7') == '127.0.1.1:7'


def test_process_0_that_cannot_be_reached():
  with socket.create_server(('127.0.0.1', 0)) as server:
    address = f'127.0.0.1:{server.getsockname()[1]}'
    processes.reach(Place(address, 2, 1), 0)
  with pytest.raises(PeerError, match=f'listen at {address}: Connection refused, for 0 s'):
    processes.reach(Place(address, 2, 1), 0)
  with pytest.raises(UserError, match=r'--coordinator_address=nowhere.invalid:7: .*, for 0 s'):
    processes.reach(Place('nowhere.invalid:7', 2, 1), 0)


# -------- GPUs --------


def slurm(tasks, task, node=0, whole=None):
  found = {'SLURM_STEP_TASKS_PER_NODE': tasks, 'SLURM_LOCALID': task, 'SLURM_NODEID': node}
  found |= {'SLURM_GPUS_ON_NODE': whole} if whole else {}
  return {name: str(value) for name, value in found.items()}


MPI = {'OMPI_COMM_WORLD_LOCAL_SIZE': '8', 'OMPI_COMM_WORLD_LOCAL_RANK': '5'}


@pytest.mark.parametrize(
  ('environment', 'visible', 'taken'),
  [
    ({}, 0, None),
    ({}, 8, list(range(8))),
    (slurm('1(x4)', 0, node=2), 8, list(range(8))),  # one task of a node takes all
    (slurm('8(x2)', 3, node=1), 8, [3]),
    (slurm('4(x2)', 1), 8, [2, 3]),
    (slurm('2(x3),1', 0, node=3), 4, [0, 1, 2, 3]),
    (slurm('8', 3, whole=8), 1, [0]),  # --gpus-per-task: each task sees its own
    (slurm('2', 1, whole=4), 2, [0, 1]),
    (slurm('8', 3), 1, [0]),
    (MPI, 8, [5]),
    ({**MPI, 'JAX_LOCAL_DEVICE_IDS': '1'}, 8, None),  # JAX reads it
  ],
)
def test_tasks_take_all_gpus_of_their_node(environment, visible, taken):
  assert processes.choose_gpus(environment, visible) == taken


def test_gpus_that_stay_unused_are_told_once(capsys):
  assert processes.choose_gpus(slurm('3', 0), 8) == [0, 1]
  assert capsys.readouterr().err == (
    '8 GPUs of this node for 3 tasks: each takes 2, 2 stay unused\n'
  )
  assert processes.choose_gpus(slurm('3', 2), 8) == [4, 5]
  assert not capsys.readouterr().err
  with pytest.raises(UserError, match='4 tasks on a node of 2 GPUs'):
    processes.choose_gpus(slurm('4', 0, whole=2), 2)


def test_visible_gpus():
  for text, count in {'0,1': 2, 'GPU-8932f937': 1, '': 0, '-1': 0, 'NoDevFiles': 0}.items():
    assert processes.visible_gpus({'CUDA_VISIBLE_DEVICES': text}) == count
