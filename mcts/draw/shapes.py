"""Pictures as a few kinds of shapes, and how to write them as SVG and as PNG."""

import dataclasses
import html
import io
import pathlib

from PIL import Image, ImageDraw, ImageFont

INK = '#1c1a18'


@dataclasses.dataclass(frozen=True)
class Box:
  x: float
  y: float
  width: float
  height: float
  fill: str
  alpha: float = 1.0


@dataclasses.dataclass(frozen=True)
class Line:
  x: float
  y: float
  x2: float
  y2: float
  stroke: str = INK
  width: float = 1.2


@dataclasses.dataclass(frozen=True)
class Disc:
  x: float
  y: float
  radius: float
  fill: str | None
  stroke: str | None = None
  width: float = 1.2
  alpha: float = 1.0


@dataclasses.dataclass(frozen=True)
class Label:
  """Centred on x and y; `height` is the size of the type."""

  x: float
  y: float
  text: str
  height: float
  fill: str = INK
  bold: bool = False


@dataclasses.dataclass(frozen=True)
class Picture:
  width: float
  height: float
  shapes: list[Box | Line | Disc | Label]


# -------- SVG --------


def svg(picture: Picture) -> str:
  """The picture as a document of its own."""
  width, height = _number(picture.width), _number(picture.height)
  head = f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" '
  head += f'viewBox="0 0 {width} {height}" font-family="Helvetica, Arial, sans-serif">'
  return '\n'.join([head, *map(_svg_shape, picture.shapes), '</svg>']) + '\n'


def _svg_shape(shape) -> str:
  match shape:
    case Box(x, y, width, height, fill, alpha):
      return _tag('rect', x=x, y=y, width=width, height=height, fill=fill, fill_opacity=alpha)
    case Line(x, y, x2, y2, stroke, width):
      return _tag('line', x1=x, y1=y, x2=x2, y2=y2, stroke=stroke, stroke_width=width)
    case Disc(x, y, radius, fill, stroke, width, alpha):
      edge = {'stroke': stroke, 'stroke_width': width} if stroke else {}
      return _tag('circle', cx=x, cy=y, r=radius, fill=fill or 'none', fill_opacity=alpha, **edge)
    case Label(x, y, text, height, fill, bold):
      # Capitals and digits are about 0.72 of the type's size high.
      place = {'x': x, 'y': y + 0.36 * height, 'font_size': height, 'fill': fill}
      weight = {'font_weight': 'bold'} if bold else {}
      return _tag('text', html.escape(text), text_anchor='middle', **place, **weight)
  raise TypeError(f'{shape!r} is not a shape')


def _tag(tag: str, content: str = '', **attributes) -> str:
  if attributes.get('fill_opacity') == 1:
    del attributes['fill_opacity']
  words = [f'{key.replace("_", "-")}="{_number(value)}"' for key, value in attributes.items()]
  end = f'>{content}</{tag}>' if content else '/>'
  return f'<{tag} {" ".join(words)}{end}'


def _number(value) -> str:
  return value if isinstance(value, str) else f'{round(float(value), 2):g}'


# -------- PNG --------


def png(picture: Picture, scale: float = 1.0, smooth: int = 4) -> bytes:
  """The picture in `scale` pixels a unit, drawn `smooth` times as large and averaged."""
  zoom = scale * smooth
  whole = [round(side * scale) for side in (picture.width, picture.height)]
  image = Image.new('RGB', (whole[0] * smooth, whole[1] * smooth), 'white')
  pen = ImageDraw.Draw(image, 'RGBA')
  for shape in picture.shapes:
    _paint(pen, shape, zoom)
  file = io.BytesIO()
  image.resize(whole, Image.Resampling.BOX).save(file, 'PNG', optimize=True)
  return file.getvalue()


def _paint(pen: ImageDraw.ImageDraw, shape, zoom: float) -> None:
  match shape:
    case Box(x, y, width, height, fill, alpha):
      pen.rectangle(_corners(x, y, x + width, y + height, zoom), _rgba(fill, alpha))
    case Line(x, y, x2, y2, stroke, width):
      across = (0.0, width / 2) if y == y2 else (width / 2, 0.0)
      corners = (x - across[0], y - across[1], x2 + across[0], y2 + across[1])
      pen.rectangle(_corners(*corners, zoom), _rgba(stroke))
    case Disc(x, y, radius, fill, stroke, width, alpha):
      # SVG's stroke lies half outside of the circle, pillow's outline all inside.
      outer = radius + (width / 2 if stroke else 0)
      corners = _corners(x - outer, y - outer, x + outer, y + outer, zoom)
      edge = {'outline': _rgba(stroke), 'width': round(width * zoom)} if stroke else {}
      pen.ellipse(corners, _rgba(fill, alpha) if fill else None, **edge)
    case Label(x, y, text, height, fill, bold):
      font = ImageFont.load_default(height * zoom)
      stroke = height * zoom / 40 if bold else 0
      place = (x * zoom, (y + 0.36 * height) * zoom)
      pen.text(place, text, _rgba(fill), font, 'ms', stroke_width=stroke)
    case _:
      raise TypeError(f'{shape!r} is not a shape')


def _corners(x, y, x2, y2, zoom) -> list[int]:
  """Pillow counts the last pixel in."""
  return [round(x * zoom), round(y * zoom), round(x2 * zoom) - 1, round(y2 * zoom) - 1]


def _rgba(colour: str, alpha: float = 1.0) -> tuple[int, ...]:
  return *(int(colour[i : i + 2], 16) for i in (1, 3, 5)), round(255 * alpha)


# -------- files --------


def save(picture: Picture, path) -> None:
  """As SVG or PNG, by the name's ending."""
  path = pathlib.Path(path)
  if path.suffix not in ('.svg', '.png'):
    raise ValueError(f'{str(path)!r}: must end in .svg or .png')
  path.parent.mkdir(parents=True, exist_ok=True)
  path.write_bytes(png(picture) if path.suffix == '.png' else svg(picture).encode('utf-8'))
