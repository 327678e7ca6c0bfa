"""GPT of 0.8 M parameters on the characters of Shakespeare: what a CPU trains in a minute or two.

python launch.py train --config=gpt_shakespeare_cpu --config.data.dataset=tiny_shakespeare.txt

Paper: none; nanoGPT's README (github.com/karpathy/nanoGPT) has 1.88 nats a character for its CPU
example, estimated on 20 random batches; over the whole validation split, in windows of 64
characters, as here, its code reaches 1.898. Network, batches, steps and optimiser are its own but
for one number: the learning rate rises to 4e-3, not to 1e-3. Ours: 1.766 +- 0.008 nats (seeds 0 to
2); with 1e-3 1.911 (seed 0); in 1,200 steps, by --config.train.steps=1200, 1.884 +- 0.012 (seeds 0
to 2). gpt_shakespeare_modern has the same size and batches, and later ideas.

The text is char-rnn's, 1,115,394 characters, whose last tenth is held out; its file or TFDS's set
of that name will do.
"""

from ml_collections import ConfigDict


def get_config() -> ConfigDict:
  return ConfigDict(
    dict(
      task=dict(name='language'),
      model=dict(name='gpt', layers=4, heads=4, width=128, block_size=64, bias=False),
      data=dict(
        name='text',
        dataset='tiny_shakespeare',
        tokenizer='characters',
        block_size=64,
        batch_size=12,
        eval_batch_size=120,
      ),
      optimizer=dict(
        name='adamw',
        learning_rate=4e-3,
        final_learning_rate=1e-4,
        schedule='cosine',
        warmup_steps=100,
        b2=0.99,
        weight_decay=0.1,
        clip_norm=1.0,
      ),
      train=dict(steps=2000, log_every=100, eval_every=500, best='val/loss'),
      paper=dict(
        title='nanoGPT',
        metric='val/loss',
        value=1.88,
        note="nanoGPT's number is an estimate on 20 random batches",
      ),
    )
  )
