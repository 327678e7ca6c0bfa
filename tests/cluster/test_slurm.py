"""cluster/slurm.sh under a real Slurm of two nodes, all of it on the loopback interface."""

import contextlib
import json
import os
import pathlib
import re
import shutil
import signal
import subprocess
import sys
import time

import pytest

PROGRAMS = ('munged', 'slurmctld', 'slurmd', 'sbatch', 'scontrol', 'scancel')
MISSING = [program for program in PROGRAMS if shutil.which(program) is None]
pytestmark = [
  pytest.mark.slow,
  pytest.mark.skipif(bool(MISSING), reason=f'no Slurm here: {", ".join(MISSING)} not found'),
  pytest.mark.skipif(os.geteuid() != 0, reason='slurmd wants to be root'),
]
ROOT = pathlib.Path(__file__).parents[2]
CONF = pathlib.Path(__file__).with_name('slurm.conf')
NODES = ('127.0.0.1', '127.0.0.2')
SHORT = ('--config.train.steps=300', '--config.train.eval_every=300')
LONG = ('--config.train.steps=100000', '--config.train.checkpoint_every=25')
OVER = ('COMPLETED', 'FAILED', 'CANCELLED', 'TIMEOUT', 'NODE_FAIL')


class Slurm:
  """A controller, two nodes and what they are asked; `folder` holds all that they write."""

  def __init__(self, folder):
    self.folder = folder
    self.environment = {
      **os.environ,
      'SLURM_CONF': str(folder / 'slurm.conf'),
      'PATH': f'{pathlib.Path(sys.executable).parent}:{os.environ["PATH"]}',
      'XLA_FLAGS': '',
    }

  def run(self, *command):
    return subprocess.run(
      command, cwd=ROOT, env=self.environment, check=True, capture_output=True, text=True
    ).stdout

  def start(self):
    port = 20000 + os.getpid() % 10000
    words = {'{folder}': self.folder, '{user}': 'root', '{port}': port}
    text = CONF.read_text()
    for word, value in {**words, '{port1}': port + 1, '{port2}': port + 2}.items():
      text = text.replace(word, str(value))
    (self.folder / 'slurm.conf').write_text(text)
    for number in range(8):
      (self.folder / f'gpu{number}').touch()
    (self.folder / 'gres.conf').write_text(f'Name=gpu File={self.folder}/gpu[0-7]\n')
    for name in ('state', *(f'spool-{node}' for node in NODES)):
      (self.folder / name).mkdir()
    self._start_munged()
    self.run('slurmctld', '-c')
    for node in NODES:
      self.run('slurmd', '-N', node)
    self.until(lambda: self.run('sinfo', '-h', '-t', 'idle', '-o', '%D').split() == ['2'])

  def _start_munged(self):
    key = self.folder / 'key'
    key.write_bytes(os.urandom(128))
    key.chmod(0o600)
    files = {'socket': 'munge.socket', 'pid-file': 'munged.pid', 'seed-file': 'seed'}
    files |= {'key-file': 'key', 'log-file': 'munged.log'}
    self.run('munged', '--force', *(f'--{k}={self.folder / v}' for k, v in files.items()))

  def stop(self):
    for path in (*self.folder.glob('slurm*.pid'), self.folder / 'munged.pid'):
      with contextlib.suppress(ProcessLookupError, FileNotFoundError):
        os.kill(int(path.read_text()), signal.SIGTERM)

  @staticmethod
  def until(condition, seconds=600):
    end = time.monotonic() + seconds
    while not condition():
      assert time.monotonic() < end, 'it never came'
      time.sleep(0.5)

  def submit(self, *options, run):
    log = f'--output={self.folder}/%A_%a.txt' if 'array' in ''.join(options) else ''
    log = log or f'--output={self.folder}/%j.txt'
    command = ['sbatch', '--parsable', log, *options, 'cluster/slurm.sh', '--config=lenet_digits']
    return self.run(*command, *run).strip()

  def log(self, job):
    path = self.folder / f'{job}.txt'
    return path.read_text() if path.exists() else ''

  def await_line(self, job, text):
    self.until(lambda: text in self.log(job) or self.facts(job)['JobState'] in OVER)
    assert text in self.log(job), self.log(job)

  def facts(self, job):
    return dict(re.findall(r'(\w+)=(\S+)', self.run('scontrol', 'show', 'job', job)))

  def ended(self, job):
    """Waits for a job's end; returns its state and how often it was started again."""
    self.until(lambda: self.facts(job)['JobState'] in OVER)
    facts = self.facts(job)
    return facts['JobState'], int(facts['Restarts'])

  def lose(self, node, job):
    """Kills all that runs on a node, as a power cut does."""
    daemon = int((self.folder / f'slurmd-{node}.pid').read_text())
    os.kill(daemon, signal.SIGKILL)
    for path in pathlib.Path('/proc').glob('[0-9]*'):
      with contextlib.suppress(OSError):
        words = set((path / 'environ').read_bytes().split(b'\0'))
        if {f'SLURM_JOB_ID={job}'.encode(), f'SLURMD_NODENAME={node}'.encode()} <= words:
          parent = int(re.findall(r'PPid:\s*(\d+)', (path / 'status').read_text())[0])
          if b'slurmstepd' in pathlib.Path(f'/proc/{parent}/cmdline').read_bytes():
            os.kill(parent, signal.SIGKILL)
          os.kill(int(path.name), signal.SIGKILL)


@pytest.fixture(scope='module')
def slurm(tmp_path_factory):
  cluster = Slurm(tmp_path_factory.mktemp('slurm'))
  try:
    cluster.start()
    yield cluster
    cluster.run('scancel', '--user=root', '--full')
  finally:
    cluster.stop()


def checksums(workdir):
  """Returns what the last checkpoint says of its arrays."""
  return json.loads((workdir / 'checkpoints/300/meta/metadata').read_text())['leaves']


def test_a_preempted_run_ends_as_one_that_was_not(slurm, tmp_path):
  whole = slurm.submit('--nodes=2', run=(*SHORT, f'--workdir={tmp_path}/whole'))
  assert slurm.ended(whole) == ('COMPLETED', 0), slurm.log(whole)
  job = slurm.submit('--nodes=2', run=(*SHORT, f'--workdir={tmp_path}/run'))
  slurm.await_line(job, 'step 50/300')
  slurm.run('scontrol', 'requeue', job)
  assert slurm.ended(job) == ('COMPLETED', 1), slurm.log(job)
  assert 'asked to stop: saved step' in slurm.log(job)
  assert 'resumed at step' in slurm.log(job)
  assert checksums(tmp_path / 'run') == checksums(tmp_path / 'whole')


def test_a_run_whose_time_is_over_goes_on_until_it_is_cancelled(slurm, tmp_path):
  time_limit = ('--time=1', '--signal=TERM@20')
  job = slurm.submit(*time_limit, run=(*LONG, f'--workdir={tmp_path}/run'))
  slurm.await_line(job, 'resumed at step')
  assert 'asked to stop: saved step' in slurm.log(job)
  slurm.run('scancel', job)
  # What is cancelled saves as well, with the same status, and is not started again.
  slurm.until(lambda: slurm.log(job).count('asked to stop: saved step') == 2)
  assert slurm.ended(job) == ('CANCELLED', 1)


def test_a_run_that_loses_a_node_is_started_again_on_those_that_there_are(slurm, tmp_path):
  job = slurm.submit('--nodes=2', run=(*LONG, f'--workdir={tmp_path}/run'))
  slurm.await_line(job, 'step 50/')
  slurm.lose(NODES[1], job)
  slurm.until(lambda: slurm.facts(job)['JobState'] == 'PENDING')
  slurm.run('slurmd', '-N', NODES[1])
  slurm.await_line(job, 'resumed at step')
  slurm.run('scancel', job)
  assert slurm.ended(job) == ('CANCELLED', 1)


def test_of_two_jobs_on_one_workdir_the_second_refuses_and_is_not_tried_again(slurm, tmp_path):
  run = (*LONG, f'--workdir={tmp_path}/run')
  first = slurm.submit(run=run)
  slurm.await_line(first, 'step 50/')
  second = slurm.submit(run=run)
  assert slurm.ended(second) == ('FAILED', 0)
  lines = [line for line in slurm.log(second).splitlines() if 'srun: ' not in line]
  assert len(lines) == 1, lines
  assert f"workdir '{tmp_path}/run' is in use by process" in lines[0]
  assert slurm.facts(first)['JobState'] == 'RUNNING'
  slurm.run('scancel', first)
  slurm.ended(first)


def test_of_an_array_of_seeds_only_the_preempted_one_is_started_again(slurm, tmp_path):
  run = (*SHORT, '--config.seed=%a', f'--workdir={tmp_path}/seed-%a')
  array = slurm.submit('--array=3-4', '--gpus-per-node=1', run=run)
  # The number of the last one is the array's, by which all would be started again.
  slurm.await_line(f'{array}_4', 'step 50/300')
  slurm.run('scancel', '--signal=TERM', f'{array}_4')
  assert slurm.ended(f'{array}_4') == ('COMPLETED', 1), slurm.log(f'{array}_4')
  assert slurm.ended(f'{array}_3') == ('COMPLETED', 0), slurm.log(f'{array}_3')
  for seed in (3, 4):
    config = json.loads((tmp_path / f'seed-{seed}' / 'config.json').read_text())
    assert config['seed'] == seed
