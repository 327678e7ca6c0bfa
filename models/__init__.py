"""Networks, one architecture a file, by the names that configs use.

Each of these can be read alone: `lenet.py`, `alexnet.py`, `resnet.py`, `alphago.py` (2016),
`alphazero.py`; the rooms `gpt/`, `diffusion/` and `gan/` begin with a page of
their own. They are made of
`alphazero.py`, `dqn.py`; the rooms `gpt/` and `diffusion/` begin with a page of their own. They are
made of
`alphazero.py`; the rooms `gpt/`, `seq2seq/` and `diffusion/` begin with a page of their own. They
are made of

- `layers.py`: linen modules over `ops.py`: convolution, products, pooling, normalisation;
- `attention.py`, `transformer.py`: what GPT, DiT and the U-Net share;
- `axes.py`, `forms.py`: how a batch is split over devices; what the program is compiled for;
- `cpu/`: the forms of operations that XLA runs well on a CPU. Nothing else speaks of them.

`summary.py` lists a network's layers. Arrows: a network imports `models.{layers, ops, attention,
transformer, axes, forms}`; these import `models.cpu`, which imports `axes` and `forms` alone.
Anything outside of `models` may import a network; `models` imports nothing of ours but itself.
"""

import functools
import importlib
import inspect
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

import flax.linen as nn

DTYPES = ('float32', 'bfloat16')  # of the computation; parameters are float32

Constructor = Callable[..., nn.Module]


class Entry(NamedTuple):
  """Where a constructor is found, and what it is given.

  Attributes:
    path: 'module:attribute'.
    args: positional arguments.
    sizes: 'attribute' of the module: keyword arguments by the network's name, such as `SIZES`.
  """

  path: str
  args: tuple[Any, ...] = ()
  sizes: str = ''


class Constructors(Mapping[str, Constructor]):
  """Constructors of networks by name; a module is imported when its network is asked for.

  A run of LeNet loads neither GPT nor diffusion.
  """

  def __init__(self, entries: Mapping[str, Entry]):
    self._entries = entries

  def __getitem__(self, name: str) -> Constructor:
    path, args, sizes = self._entries[name]
    module_name, attribute = path.split(':')
    module = importlib.import_module(module_name)
    keywords = getattr(module, sizes)[name] if sizes else {}
    constructor = getattr(module, attribute)
    return functools.partial(constructor, *args, **keywords) if args or keywords else constructor

  def __iter__(self) -> Iterator[str]:
    return iter(self._entries)

  def __len__(self) -> int:
    return len(self._entries)

  def __contains__(self, name: object) -> bool:
    return name in self._entries


def _sized(path: str, *names: str) -> dict[str, Entry]:
  """Returns entries whose keyword arguments are in the module's SIZES."""
  return {name: Entry(path, sizes='SIZES') for name in names}


# Those that keep the contract of `models.diffusion.denoiser.DenoisingNetwork`.
DENOISING_NETWORKS = {
  'unet': Entry('models.diffusion.unet:UNet'),
  **_sized('models.diffusion.unet:UNet', 'ddpm', 'ddpmpp', 'ddpmpp_deep', 'ncsnpp'),
  **_sized('models.diffusion.unet:UNet', 'ncsnpp_deep', 'edm', 'edm_ncsnpp', 'adm_imagenet64'),
  'dit': Entry('models.diffusion.dit:DiT'),
  **_sized('models.diffusion.dit:DiT', 'dit_s', 'dit_b', 'dit_l', 'dit_xl'),
}

# Those that keep the contract of `models.seq2seq.contract.Seq2Seq`.
SEQ2SEQ = {
  'transformer': Entry('models.seq2seq.transformer:Transformer'),
  **_sized('models.seq2seq.transformer:Transformer', 'transformer_base', 'transformer_big'),
  'rnnsearch': Entry('models.seq2seq.rnnsearch:RNNsearch'),
  **_sized('models.seq2seq.rnnsearch:RNNsearch', 'rnnsearch_paper'),
}

MODELS = Constructors(
  {
    'lenet5': Entry('models.lenet:lenet5'),
    'lenet': Entry('models.lenet:lenet'),
    'alexnet': Entry('models.alexnet:alexnet'),
    'alexnet_one_column': Entry('models.alexnet:alexnet_one_column'),
    'alexnet_torchvision': Entry('models.alexnet:alexnet_torchvision'),
    'alexnet_cifar10': Entry('models.alexnet:alexnet_cifar10'),
    **{f'resnet{n}': Entry('models.resnet:resnet_cifar', (n,)) for n in (20, 32, 44, 56, 110)},
    **{f'resnet{n}': Entry('models.resnet:resnet_imagenet', (n,)) for n in (18, 34, 50, 101, 152)},
    'airbench94': Entry('models.airbench:AirBench'),
    'word2vec': Entry('models.word2vec:Word2Vec'),
    'gpt': Entry('models.gpt:GPT'),
    **_sized('models.gpt:GPT', 'gpt2', 'gpt2_medium', 'gpt2_large', 'gpt2_xl'),
    'dbn': Entry('models.dbn:dbn'),
    'gan': Entry('models.gan.mlp:MLP'),
    'dcgan': Entry('models.gan.dcgan:DCGAN'),
    'alphago_policy': Entry('models.alphago:policy'),
    'alphago_value': Entry('models.alphago:value'),
    'alphago_rollout': Entry('models.alphago:Rollout'),
    **SEQ2SEQ,
    **DENOISING_NETWORKS,
    **_sized('models.dqn:QNetwork', 'dqn_nature', 'dqn_minatar', 'dqn_mlp'),
    **_sized('models.alphazero:PolicyValue', 'policy_value', 'alphago_zero20', 'alphago_zero40'),
  }
)


def build(name: str, **kwargs: Any) -> nn.Module:
  """Returns the network of that name, e.g. `build('resnet20', num_classes=10, dtype='bfloat16')`.

  `module.apply(variables, x, train=...)` of a classifier gives float32 logits `[B, num_classes]`
  for images `[B, H, W, C]`; the other networks' docstrings say what they take and give.

  Args:
    name: a key of MODELS.
    **kwargs: arguments of the constructor.

  Raises:
    ValueError: the name or dtype is unknown, the constructor has no such argument, or the network
      refuses a value.
  """
  if name not in MODELS:
    raise ValueError(f'model.name={name!r}: choose from {", ".join(MODELS)}')
  dtype = kwargs.get('dtype', 'float32')
  if dtype not in DTYPES:
    raise ValueError(f'model.dtype={dtype!r}: choose from {", ".join(DTYPES)}')
  constructor = MODELS[name]
  try:
    inspect.signature(constructor).bind(**kwargs)
  except TypeError as error:
    raise ValueError(f'model.name={name!r}: {error}') from None
  return constructor(**kwargs)
