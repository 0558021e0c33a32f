"""DenseNet, built block by block. Start reading at densenet_lib/densenet.py."""
