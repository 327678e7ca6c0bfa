"""What each pillar's programs communicate on simulated devices: nothing that they need not."""
