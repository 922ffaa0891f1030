"""What training scripts share: checkpoints, resuming, trainers, modules trained on labels."""
