"""Transformer big of Vaswani et al. 2017 on WMT14, English to German: 214 M parameters.

python launch.py train --config=transformer_big --workdir=runs/transformer_big
python launch.py eval --workdir=runs/transformer_big --average=20 --beams=4

Paper: Vaswani et al. 2017 (arXiv 1706.03762): 28.4 % BLEU on newstest2014 (table 2), tokenised and
with compounds split, after 300,000 steps; see transformer_base, from which it differs in its
sizes, dropout, steps and the number of checkpoints that are averaged. Ours: not trained yet.
"""

from ml_collections import ConfigDict

from configs import transformer_base


def get_config() -> ConfigDict:
  config = transformer_base.get_config()
  config.model.name = 'transformer_big'
  config.optimizer.learning_rate = 4.94e-4  # 1024^-0.5 4000^-0.5
  config.train.update(steps=300_000, keep=20)
  config.paper.value = 28.4
  return config
