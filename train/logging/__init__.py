"""What a run writes while it trains: metrics and TensorBoard events, progress, samples, MFU.

The loop imports it, and evaluations that show their progress.
"""
