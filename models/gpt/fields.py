"""Which values the fields of `models.gpt.GPT` may have."""

from typing import Any

from models import attention as attention_lib
from models import transformer
from models.gpt import parameters

CHOICES = {
  'positions': ('learned', 'rope'),
  'norm': tuple(transformer.NORMS),
  'mlp': ('gelu', 'swiglu'),
  'attention': attention_lib.FORMS,
  'remat': transformer.REMAT,
  'dtype': ('float32', 'bfloat16'),
}

POSITIVE: tuple[str, ...] = (
  *('vocab_size', 'block_size', 'layers', 'heads', 'width', 'kv_heads', 'head_width'),
  *('mlp_width', 'vocab_multiple'),
)


def check(model: Any) -> None:
  """Raises ValueError where a field has a value that cannot be."""
  transformer.check_fields(model, CHOICES, POSITIVE)
  kv_heads = parameters.num_kv_heads(model)
  if model.head_width is None and model.width % model.heads:
    raise ValueError(f'model.heads={model.heads}: must divide model.width={model.width}')
  if model.heads % kv_heads:
    raise ValueError(f'model.kv_heads={kv_heads}: must divide model.heads={model.heads}')
  head = parameters.head_width(model)
  if model.positions == 'rope' and head % 2:
    raise ValueError(f"model.positions='rope': heads are {head} wide; an even width is needed")
  if not 0 <= model.dropout < 1:
    raise ValueError(f'model.dropout={model.dropout}: from 0 to below 1')
  if not model.rope_base > 0 or not model.norm_epsilon > 0:
    said = f'model.rope_base={model.rope_base}, model.norm_epsilon={model.norm_epsilon}'
    raise ValueError(f'{said}: must be positive')
  if len(model.rope_scaling) not in (0, 1, 4) or min(model.rope_scaling, default=1) <= 0:
    rule = 'must be (), (factor,) or (factor, low, high, length), of positive numbers'
    raise ValueError(f'model.rope_scaling={model.rope_scaling}: {rule}')
  if model.softcap < 0:
    raise ValueError(f'model.softcap={model.softcap}: positive, or 0 for none')
  if model.dropout and model.attention == 'fused':
    raise ValueError(
      f"model.dropout={model.dropout}: attention='fused' drops no weights; choose auto, explicit"
    )
