"""GPT-2 of 774 M parameters on OpenWebText: 600,000 steps of 0.49 M tokens.

python launch.py train --config=gpt2_large --workdir=runs/gpt2_large

Paper: Radford et al., Language models are unsupervised multitask learners, 2019, whose own weights
have 2.67 nats a token there (nanoGPT's README, github.com/karpathy/nanoGPT) without having been
trained on it. The learning rate is GPT-3's for this size (arXiv 2005.14165, table 2.1), the rest
nanoGPT's. Parameters are split over all devices. Ours: not trained yet.

The text is prepared as gpt2_124m says.
"""

from ml_collections import ConfigDict


def get_config() -> ConfigDict:
  return ConfigDict(
    dict(
      task=dict(name='language', chunk=128),
      model=dict(
        name='gpt2_large', bias=False, vocab_multiple=64, dtype='bfloat16', scan=True, remat='block'
      ),
      data=dict(
        name='text',
        dataset='./openwebtext',
        separator='<|endoftext|>',
        val_fraction=0.0005,
        tokenizer='gpt2',
        block_size=1024,
        batch_size=480,
        eval_batch_size=96,
      ),
      optimizer=dict(
        name='adamw',
        learning_rate=2.5e-4,
        final_learning_rate=2.5e-5,
        schedule='cosine',
        warmup_steps=2000,
        b2=0.95,
        weight_decay=0.1,
        clip_norm=1.0,
      ),
      train=dict(
        steps=600_000,
        accumulate=10,
        log_every=10,
        eval_every=1000,
        best='val/loss',
      ),
      mesh=dict(data=1, fsdp=-1),
      paper=dict(title='nanoGPT', metric='val/loss', value=2.67),
    )
  )
