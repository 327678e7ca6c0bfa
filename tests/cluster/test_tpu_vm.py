"""cluster/tpu_vm.sh with a `gcloud` that keeps its state in a file, workers are this shell."""

import os
import pathlib
import subprocess

import pytest

ROOT = pathlib.Path(__file__).parents[2]
# A run's ends are lines of `ends`: the status and the state in which it leaves the slice.
GCLOUD = r"""#!/usr/bin/env bash
echo "gcloud $4 $5 $6" >> calls
case $4 in
  describe) [ -e state ] && cat state ;;
  create) [ -e room ] && echo READY > state || { touch room; exit 1; } ;;
  delete) rm state ;;
  ssh) [[ $(cat state) == READY ]] && bash -c "${!##--command=}" ;;
esac
"""
SUDO = r"""#!/usr/bin/env bash
printf '%s|' "$@" >> calls; echo >> calls
[[ "$1 $2" == 'docker run' ]] || exit 0
read -r status state < ends; sed -i 1d ends; echo "$state" > state; exit "$status"
"""
SLEEP = '#!/bin/sh\necho sleep >> calls\n'


@pytest.fixture
def launch(tmp_path):
  (tmp_path / 'room').touch()
  for name, text in {'gcloud': GCLOUD, 'sudo': SUDO, 'sleep': SLEEP}.items():
    (tmp_path / name).write_text(text)
    (tmp_path / name).chmod(0o755)

  def run(*ends, words=('--config=lenet_digits',)):
    """Returns the status, and the calls of gcloud and sudo."""
    (tmp_path / 'ends').write_text('\n'.join(ends) + '\n')
    environment = {
      **os.environ,
      'PATH': f'{tmp_path}:{os.environ["PATH"]}',
      'IMAGE': 'host/image',
      'SHARE': '10.0.0.2:/runs',
    }
    done = subprocess.run(
      [ROOT / 'cluster' / 'tpu_vm.sh', 'slice', *words],
      cwd=tmp_path,
      env=environment,
      stdout=subprocess.DEVNULL,
      timeout=60,
    )
    return done.returncode, (tmp_path / 'calls').read_text().splitlines()

  return run


def verbs(calls):
  return [call.split()[1] for call in calls if call.startswith('gcloud ')]


def runs(calls):
  return [call for call in calls if call.startswith('docker|run')]


def test_a_run_that_finishes_takes_its_slice_with_it(launch):
  status, calls = launch('0 READY')
  assert status == 0
  assert verbs(calls) == ['describe', 'create', 'ssh', 'ssh', 'delete']


def test_a_run_that_was_preempted_begins_again_on_the_same_slice_or_a_new_one(launch):
  status, calls = launch('75 READY', '255 READY', '1 PREEMPTED', '0 READY')
  assert status == 0
  assert len(runs(calls)) == 4
  assert [verb for verb in verbs(calls) if verb in ('create', 'delete')] == [
    *('create', 'delete', 'create'),
    'delete',
  ]
  # What an earlier start left is stopped before each of them.
  stops = [number for number, call in enumerate(calls) if call.startswith('docker|stop|')]
  begins = [number for number, call in enumerate(calls) if call.startswith('docker|run|')]
  assert all(stop < begin for stop, begin in zip(stops, begins, strict=True))


def test_a_run_that_failed_is_not_tried_again_and_leaves_its_slice(launch):
  status, calls = launch('2 READY')
  assert status == 2
  assert len(runs(calls)) == 1
  assert 'delete' not in verbs(calls)


def test_words_reach_the_workers_as_they_were_given(launch):
  words = ("--config.task.baselines=('random',)", '--workdir=/runs/two words', '--config.x=$HOME')
  _, calls = launch('0 READY', words=words)
  assert runs(calls)[0].split('|')[-4:-1] == list(words)


def test_a_slice_for_which_there_is_no_room_is_asked_for_again(launch, tmp_path):
  (tmp_path / 'room').unlink()
  status, calls = launch('0 READY')
  assert status == 0
  assert verbs(calls)[:4] == ['describe', 'create', 'describe', 'create']
  assert calls.count('sleep') == 1
