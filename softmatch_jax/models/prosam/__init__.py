"""ProSAM (Wang et al., ICCV 2025) and VRP-SAM (Sun et al., CVPR 2024): an example becomes prompts for SAM."""
