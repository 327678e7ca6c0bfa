"""Parser of operations in configs: `'random_crop(padding=4)|flip()'`, `'heun(churn=10)'`.

The text is parsed as Python (calls joined by `|`), but nothing in it is executed: names are looked
up in a table and arguments are literals.
"""

import ast
import functools
import inspect
import math
from collections.abc import Callable, Mapping
from typing import Any

from data.checks import shown

LONGEST = 1000  # characters; Python's parser runs out of stack on the nesting of longer ones
LARGEST = 1 << 31  # of an integer: no image, batch or step is as large


def parse(spec: str, table: Mapping[str, Callable], where: str) -> list[functools.partial]:
  """Returns the operations of `spec`, in order, each with its arguments bound.

  Args:
    spec: calls joined by `|`; '' is no operation. Arguments are the keyword-only parameters of the
      function; without a name they are taken in the order of its signature. Integers are at least 1
      and floats finite and at least 0.
    table: name -> function.
    where: the config key, with which messages begin.

  Raises:
    ValueError: on anything else.
  """
  if not spec.strip():
    return []
  tree = _tree(spec, where, "not of the form 'name(...)|name(...)'")
  return [_bind(call, table, where, spec.strip()) for call in _calls(tree)]


def section(spec: str, where: str) -> dict:
  """Returns a config section: {'name': 'heun', 'churn': 10} for 'heun(churn=10)'.

  Without arguments the name alone will do, and strings need no quotes. Names and types are checked
  by whoever builds from the section. Raises ValueError, which begins with `where`, on other texts.
  """
  form = "write NAME or NAME(key=value), such as 'heun(churn=10)'"
  tree = _tree(spec, where, form)
  call = tree if isinstance(tree, ast.Call) else ast.Call(tree, [], [])
  keys = [keyword.arg for keyword in call.keywords]
  try:
    if not isinstance(call.func, ast.Name) or call.args or len({*keys, None}) <= len(keys):
      raise ValueError  # not a name, an argument without one, or one that is given twice
    values = {k.arg: _literal(k.value) for k in call.keywords}
  except (ValueError, TypeError, RecursionError) as error:
    raise ValueError(f'{where}={shown(spec)}: {form}') from error
  return {'name': call.func.id, **values}


def _tree(spec: str, where: str, form: str) -> ast.expr:
  """Returns the expression that a text is; raises ValueError with `form` if it is none."""
  try:
    if len(spec) > LONGEST:
      raise ValueError
    return ast.parse(spec.strip(), mode='eval').body
  except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
    raise ValueError(f'{where}={shown(spec)}: {form}') from error


def _literal(value: ast.expr) -> Any:
  return value.id if isinstance(value, ast.Name) else ast.literal_eval(value)


def _calls(tree: ast.expr) -> list[ast.expr]:
  """Returns the operands of a chain of `|`, left to right."""
  if isinstance(tree, ast.BinOp) and isinstance(tree.op, ast.BitOr):
    return _calls(tree.left) + _calls(tree.right)
  return [tree]


def _bind(
  call: ast.expr, table: Mapping[str, Callable], where: str, spec: str
) -> functools.partial:
  if not isinstance(call, ast.Call) or not isinstance(call.func, ast.Name):
    part = ast.get_source_segment(spec, call)
    raise ValueError(f'{where}: {shown(part)} is not of the form name(...)')
  name = call.func.id
  if name not in table:
    raise ValueError(
      f'{where}: unknown operation {shown(name)}; choices: {", ".join(sorted(table))}'
    )
  parameters = {
    key: parameter
    for key, parameter in inspect.signature(table[name]).parameters.items()
    if parameter.kind is parameter.KEYWORD_ONLY
  }
  arguments = _arguments(call, list(parameters), f'{where}: {name}')
  for key, value in arguments.items():
    _check(value, parameters[key].annotation, f'{where}: {name}({key}={shown(value)})')
  missing = [k for k, p in parameters.items() if p.default is p.empty and k not in arguments]
  if missing:
    raise ValueError(f'{where}: {name}() needs {", ".join(missing)}')
  return functools.partial(table[name], **arguments)


def _arguments(call: ast.Call, names: list[str], where: str) -> dict:
  """Returns name -> literal value."""
  given = [*zip(names, call.args, strict=False), *((k.arg, k.value) for k in call.keywords)]
  choices = f'choices: {", ".join(names) or "none"}'
  if len(call.args) > len(names):
    raise ValueError(f'{where}() takes at most {len(names)} arguments; {choices}')
  for name, _ in given:
    if name not in names:
      raise ValueError(f'{where}() has no argument {shown(name)}; {choices}')
  if len({name for name, _ in given}) < len(given):
    raise ValueError(f'{where}() is given an argument twice; {choices}')
  try:
    return {name: ast.literal_eval(value) for name, value in given}
  except (ValueError, TypeError, RecursionError) as error:
    raise ValueError(f'{where}(): arguments are plain values, such as 4 or 0.5') from error


def _check(value: Any, kind: type, where: str) -> None:
  """Raises ValueError if `value` is not of `kind`: int, float (or an int), bool or tuple."""
  kinds: Any = (int, float) if kind is float else kind
  if not isinstance(value, kinds) or (isinstance(value, bool) and kind is not bool):
    raise ValueError(f'{where}: must be of type {kind.__name__}')
  if not all(isinstance(x, int | float) and math.isfinite(x) for x in _leaves(value)):
    raise ValueError(f'{where}: must be of finite numbers')
  if kind is int and value > LARGEST:
    raise ValueError(f'{where}: must be at most {LARGEST}')
  lowest = {int: 1, float: 0}.get(kind)
  if lowest is not None and not value >= lowest:
    raise ValueError(f'{where}: must be at least {lowest}')


def _leaves(value: Any) -> list[Any]:
  """Returns the values of nested tuples; a value that is none as the only one."""
  return [x for each in value for x in _leaves(each)] if isinstance(value, tuple) else [value]
