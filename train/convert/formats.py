"""The formats of public weights by name, and how the one of a folder or file is found."""

from collections.abc import Mapping

from models.weights import alexnet, dit, resnet, unet
from models.weights.files import Files
from train.convert import diffusion, go, language, vision, words
from train.convert.format import Format
from train.errors import UserError, shown, unknown

# The first that recognises the files is theirs.
FORMATS: Mapping[str, Format] = {
  # First, since it is no file of tensors, which the others look for.
  'leelaz': Format("a network in Leela Zero's text format", go.is_leelaz, go.from_leelaz),
  'word2vec': Format("word2vec's vectors, text or binary", words.is_word2vec, words.from_word2vec),
  'gpt2': Format("GPT-2 in Hugging Face's layout", language.is_gpt2, language.from_transformers),
  'llama': Format(
    "Llama, Mistral, Qwen2 or Qwen3 in Hugging Face's layout",
    language.is_llama,
    language.from_transformers,
  ),
  'resnet_transformers': Format(
    "ResNet in Hugging Face's layout", resnet.is_transformers, vision.from_transformers
  ),
  'resnet_torchvision': Format(
    'ResNet of torchvision or timm', resnet.is_torchvision, vision.from_torchvision
  ),
  'unet_diffusers': Format("diffusers' UNet2DModel", unet.recognises, diffusion.from_diffusers),
  'dit': Format("the authors' DiT", dit.recognises, diffusion.from_dit),
  'alexnet_torchvision': Format('AlexNet of torchvision', alexnet.recognises, vision.from_alexnet),
}


def find(files: Files, name: str | None) -> Format:
  """Returns the format of that name, or the first that recognises the files.

  Raises:
    UserError: there is none.
  """
  if name is not None:
    if name not in FORMATS:
      raise unknown(f'--format={name}', name, 'no such format', FORMATS)
    return FORMATS[name]
  for each in FORMATS.values():
    if each.recognises(files):
      return each
  known = '; '.join(f'{name} ({each.what})' for name, each in FORMATS.items())
  raise UserError(f'{files.path}: {_contents(files)}, none of the formats that are read: {known}')


def _contents(files: Files) -> str:
  """Returns what the files say of themselves, or the names of some tensors."""
  for key in ('model_type', '_class_name', 'architecture'):
    if key in files.config:
      return f'config.json says {key}={shown(files.config[key])}'
  return f'holds tensors such as {", ".join(list(files.tensors)[:3]) or "none"}'
