"""What can be known of cluster/ without a cluster: JobSet's schema, what the image is made of."""

import configparser
import pathlib
import re

import pytest
import yaml

from train.cli import verb_options
from train.errors import Status

ROOT = pathlib.Path(__file__).parents[2]
CLUSTER = ROOT / 'cluster'
TPU = (CLUSTER / 'gke.yaml').read_text()
# As the sed of its second line has it.
GPU = re.sub('.*#tpu.*\n', '', TPU.replace('#gpu ', ''))


@pytest.mark.parametrize('path', sorted(CLUSTER.iterdir()), ids=lambda path: path.name)
def test_a_file_opens_with_what_it_does_how_it_is_called_and_what_to_change(path):
  lines = [line for line in path.read_text().splitlines() if not line.startswith('#!')]
  assert all(line.startswith('# ') for line in lines[:3])
  assert lines[1].startswith('# Call it')
  assert lines[2].startswith('# Change ')
  assert not lines[3].startswith('# ')


# -------- GKE --------


def documents():
  return pytest.mark.parametrize('text', [TPU, GPU], ids=['tpu', 'gpu'])


def parts(text):
  """Returns the JobSet, its one job and what its pods run."""
  jobset = yaml.safe_load(text)
  [workers] = jobset['spec']['replicatedJobs']
  job = workers['template']['spec']
  [container] = job['template']['spec']['containers']
  return jobset, workers['name'], job, container


def errors(text):
  """Returns what is wrong by the models that JobSet's API is generated from, as {path: reason}."""
  models = pytest.importorskip('kubeflow_trainer_api.models.jobset_v1alpha2_job_set')
  try:
    models.JobsetV1alpha2JobSet.model_validate(yaml.safe_load(text), extra='forbid')
  except ValueError as error:
    found = {'.'.join(map(str, each['loc'])): each['msg'] for each in error.errors()}
    # Quantities such as `google.com/tpu: 4` are texts or numbers; the models have no word for that.
    return {path: reason for path, reason in found.items() if 'Quantity' not in reason}
  return {}


@documents()
def test_a_jobset_is_one_by_its_schema(text):
  assert errors(text) == {}


@pytest.mark.parametrize(
  ('right', 'wrong', 'path'),
  [
    ('podFailurePolicy:', 'podFailurPolicy:', 'replicatedJobs.0.template.spec.podFailurPolicy'),
    ('maxRestarts: 3', 'maxRestarts: many', 'failurePolicy.maxRestarts'),
    ('- name: preempted', '- title: preempted', 'failurePolicy.rules.0.name'),
    ('mountPath', 'path', 'containers.0.volumeMounts.0.path'),
  ],
)
def test_what_is_misspelt_missing_or_of_another_type_is_found(right, wrong, path):
  assert right in TPU
  assert any(path in where for where in errors(TPU.replace(right, wrong)))


@documents()
def test_all_pods_are_started_again_after_the_status_of_a_preemption(text):
  jobset, _, job, _ = parts(text)
  codes, condition = job['podFailurePolicy']['rules']
  assert codes['onExitCodes'] == {'operator': 'In', 'values': [Status.PREEMPTED]}
  assert condition['onPodConditions'] == [{'type': 'DisruptionTarget', 'status': 'True'}]
  # The job fails by its policy at once, and the set restarts all of them without counting.
  assert codes['action'] == condition['action'] == 'FailJob'
  [rule] = jobset['spec']['failurePolicy']['rules']
  assert rule['action'] == 'RestartJobSetAndIgnoreMaxRestarts'
  assert rule['onJobFailureReasons'] == ['PodFailurePolicy']
  # What Kubernetes demands beside a policy; and a pod alone cannot go on.
  assert job['template']['spec']['restartPolicy'] == 'Never'
  assert job['backoffLimit'] == 0


def test_pods_find_each_other():
  jobset, name, job, container = parts(GPU)
  run, count = jobset['metadata']['name'], job['parallelism']
  assert job['completions'] == count
  assert job['completionMode'] == 'Indexed'
  words = dict(word[2:].split('=') for word in container['args'][1:])
  assert words['coordinator_address'] == f'{run}-{name}-0-0.{run}:8476'
  assert words['num_processes'] == str(count)
  assert words['process_id'] == '$(JOB_COMPLETION_INDEX)'
  options = (verb_options.CONFIG, verb_options.NEW_RUN, *verb_options.PROCESSES)
  assert words.keys() <= {option.name for option in options}


@documents()
def test_mounts_have_their_volumes_and_each_pod_has_devices(text):
  _, _, job, container = parts(text)
  volumes = {volume['name'] for volume in job['template']['spec']['volumes']}
  assert {mount['name'] for mount in container['volumeMounts']} == volumes
  device = {TPU: 'google.com/tpu', GPU: 'nvidia.com/gpu'}[text]
  assert list(container['resources']['limits']) == [device]


def test_the_tpus_of_the_pods_are_the_slice():
  _, _, job, container = parts(TPU)
  topology = job['template']['spec']['nodeSelector']['cloud.google.com/gke-tpu-topology']
  rows, columns = map(int, topology.split('x'))
  assert job['parallelism'] * container['resources']['limits']['google.com/tpu'] == rows * columns


# -------- the image --------


def test_the_image_is_made_of_what_is_there():
  text = (CLUSTER / 'Dockerfile').read_text()
  [files] = re.findall(r'^COPY (.*) \./$', text, re.M)
  assert all((ROOT / name).exists() for name in files.split())
  [default] = re.findall(r'^ARG EXTRAS=(.*)$', text, re.M)
  setup = configparser.ConfigParser()
  setup.read(ROOT / 'setup.cfg')
  assert {default, 'cpu', 'cuda', 'tpu'} <= setup['options.extras_require'].keys()
