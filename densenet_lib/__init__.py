"""DenseNet, built block by block. Start reading at densenet_lib/densenet.py."""

import os

# On Linux PyTorch's threads spin while they wait for each other. Two programs at once, each with as
# many threads as there are cores, then hold each other up, five times and more. Fewer spins before
# a thread sleeps cost nothing alone. (It counts only if it is set before torch is loaded.)
os.environ.setdefault("GOMP_SPINCOUNT", "1000")
