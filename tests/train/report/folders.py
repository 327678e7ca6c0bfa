"""Run folders written as `train` and `eval` do, and what a reader sees of a page about them."""

import html
import html.parser
import json
import re

import numpy as np

PAPER = {'title': 'LeCun et al. 1998', 'metric': 'test/error', 'value': 0.0095, 'note': ''}
VERSIONS = {'python': '3.11.2', 'jax': '0.10.2'}
COMMAND = 'python /a/launch.py train --config=configs/lenet.py --workdir=runs/x --config.seed=3'
START = {
  'step': 0,
  'time': '2026-01-31T10:20:30+00:00',
  'command': COMMAND,
  'versions': VERSIONS,
  'device': 'NVIDIA H200',
  'device_count': 8,
  'process_count': 1,
  'commit': '0123456789abcdef',
  'dirty': False,
}


def run_folder(path, *, seed=0, error=0.01, rate=0.1, steps=300, evaluated=True, paper=PAPER):
  """A finished run of 300 steps with three classes; returns its path."""
  path.mkdir()
  config = {
    'model': {'name': 'lenet'},
    'data': {'name': 'images', 'dataset': 'digits'},
    'optimizer': {'name': 'sgd', 'learning_rate': rate},
    'train': {'steps': 300},
    'paper': paper,
    'seed': seed,
  }
  write(path / 'config.json', config)
  write(path / 'run.json', {'seed': seed, 'starts': [START]})
  lines = [
    {'step': s, 'train/loss': 1 / s, 'time/seconds': s / 2} for s in range(10, steps + 1, 10)
  ]
  lines += [
    {'step': s, 'test/loss': 2 / s, 'test/error': error} for s in range(100, steps + 1, 100)
  ]
  (path / 'metrics.jsonl').write_text(''.join(json.dumps(line) + '\n' for line in lines))
  if evaluated:
    evaluate(path, error)
  return str(path)


def evaluate(path, error, workdirs=('itself',)):
  facts = {'confusion': [[9, 1, 0], [0, 10, 0], [2, 0, 8]], 'classes': ['cat', 'dog', '<b>']}
  metrics = {'test/error': error}
  evaluation = {'step': 300, 'checkpoint': 'best', 'metrics': metrics, 'workdirs': workdirs}
  write(path / 'eval.json', evaluation | facts)
  arrays = {
    'images': np.zeros((2, 8, 8, 1), np.uint8),
    'labels': np.array([0, 2]),
    'predictions': np.array([0, 1]),
    'probabilities': np.array([0.9, 0.6], np.float32),
    'filters': np.ones((5, 5, 1, 6), np.float32),
  }
  np.savez(path / 'eval_figures.npz', **arrays)


def write(path, value):
  path.write_text(json.dumps(value))


class Outline(html.parser.HTMLParser):
  """The tags of a page; fails on one that is closed in the wrong place."""

  def __init__(self, text):
    super().__init__()
    self.open, self.tags, self.attributes = [], [], []
    self.feed(text)
    assert not self.open

  def handle_starttag(self, tag, attrs):
    self.tags.append(tag)
    self.attributes += attrs
    if tag not in ('meta', 'img', 'input'):
      self.open.append(tag)

  def handle_startendtag(self, tag, attrs):
    self.tags.append(tag)
    self.attributes += attrs

  def handle_endtag(self, tag):
    assert self.open.pop() == tag


def text_of(page):
  """What a reader sees: without style, tags and line breaks."""
  bare = re.sub(r'<style>.*?</style>|<[^>]*>', ' ', page, flags=re.S)
  return ' '.join(html.unescape(bare).split())
