"""Fits the values of a config to the types of the parameters that take them."""

import ast
import collections.abc
import contextlib
import inspect
import math
import types
from collections.abc import Mapping
from typing import Any, Literal, Union, get_args, get_origin

from train.errors import UserError, shown, unknown

MISSING = inspect.Parameter.empty
MISFIT = (ValueError, TypeError, KeyError, OverflowError)


class OverrideText(str):
  """A value from the command line, which `complete` reads as the type that the key has."""

  __repr__ = str.__str__


def fit(value: Any, hint: Any, where: str) -> Any:
  """Returns the value as the type `hint`: text parsed, a list made a tuple, an int made a float.

  Raises UserError, with `where` in front, if it is not of that type.
  """
  try:
    return _fit(value, hint)
  except MISFIT:
    if get_origin(hint) is Literal:
      choices = [str(choice) for choice in get_args(hint)]
      raise unknown(f'{where}={shown(value)}', str(value), 'no such choice', choices) from None
    raise UserError(f'{where}={shown(value)}: must be {describe(hint)}') from None


def _fit(value: Any, hint: Any) -> Any:
  """Returns the value as the type, or raises one of MISFIT."""
  origin, arguments = get_origin(hint) or hint, get_args(hint)
  if origin in (Union, types.UnionType):
    return _fit_union(value, arguments)
  if origin is Literal:
    return {str(choice): choice for choice in arguments}[str(value)]
  if isinstance(value, OverrideText):
    value = str(value) if origin is str else _read(value)
  if origin in (tuple, list, collections.abc.Sequence):
    return _fit_sequence(value, origin, arguments)
  if origin is float and type(value) is int:
    return float(value)
  if origin is int and type(value) is float and value.is_integer():
    return int(value)  # 1e6 steps
  return _check(value, origin)


def _fit_union(value: Any, hints: tuple[Any, ...]) -> Any:
  """Returns the value as the first type that takes it; str, which takes any text, comes last."""
  for hint in sorted(hints, key=lambda hint: hint is str):
    with contextlib.suppress(*MISFIT):
      return _fit(value, hint)
  raise TypeError


def _fit_sequence(value: Any, origin: Any, hints: tuple[Any, ...]) -> Any:
  """Returns a tuple, or a list where that is the origin, of items of the types `hints`."""
  if not isinstance(value, (tuple, list)):
    raise TypeError
  if origin is not tuple or hints[1:] == (...,):
    hints = hints[:1] * len(value)
  items = [_fit(v, hint) for v, hint in zip(value, hints or [MISSING] * len(value), strict=True)]
  return items if origin is list else tuple(items)


def _read(text: str) -> Any:
  """Returns the Python literal that the text is, or else the text: 0.1, (1, 2), none, mnist."""
  words = {'true': True, 'false': False, 'none': None}
  if text.lower() in words:
    return words[text.lower()]
  try:
    return ast.literal_eval(text)
  except (ValueError, SyntaxError, RecursionError, MemoryError):
    return str(text)


def _check(value: Any, hint: Any) -> Any:
  """Returns the value if it is of the type (True is no int), else raises TypeError."""
  kinds = (bool, int, float, str, dict, type(None))
  if type(value) is float and not math.isfinite(value):
    raise ValueError(value)  # 1e400: no float holds it
  if not is_json(value) or (hint in kinds and type(value) is not hint):
    raise TypeError
  return value


def describe(hint: Any) -> str:
  """Returns the type in words: 'a float or none', 'a tuple (int, ...)'."""
  origin, arguments = get_origin(hint) or hint, get_args(hint)
  if origin in (Union, types.UnionType):
    return ' or '.join(map(describe, arguments))
  if origin is Literal:
    return f'one of {", ".join(map(str, arguments))}'
  if origin in (tuple, list, collections.abc.Sequence):
    items = ', '.join('...' if a is ... else getattr(a, '__name__', str(a)) for a in arguments)
    return f'a {"list" if origin is list else "tuple"}{f" ({items})" if items else ""}'
  words = {bool: 'true or false', int: 'an int', float: 'a float', str: 'text', type(None): 'none'}
  return words.get(origin, 'a value of JSON')


def is_json(value: Any) -> bool:
  """Returns whether JSON can say the value, tuples as lists."""
  if isinstance(value, Mapping):
    return all(isinstance(k, str) and is_json(v) for k, v in value.items())
  if isinstance(value, (list, tuple)):
    return all(map(is_json, value))
  return value is None or isinstance(value, (bool, int, float, str))
