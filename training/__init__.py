"""Collators, samplers, trainers and the scripts for accelerate launch."""
