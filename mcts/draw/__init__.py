"""Pictures of Go boards, as SVG and PNG.

`python -m mcts.draw GAME.sgf --move=36 --output=board.png` draws the board after 36 moves. All is in
`diagram`: `draw` makes a figure, `encode` and `save` write it. It knows `mcts.go` alone.
"""
