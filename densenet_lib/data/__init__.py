"""Pictures, from anywhere, as tensors: load a source as an `ImageSet`, feed it by `Batches`."""

from densenet_lib.data.batches import DEVICES, Batches, choose_device, cut_out, flip_and_shift
from densenet_lib.data.images import ImageSet, channel_statistics, split_validation
from densenet_lib.data.sources import SOURCES, home, load_images, resolve
