"""Facts about the published files of downloaded data sets, by which these files are checked."""

from pathlib import Path

#: Number of records in each file of CIFAR-10.
CIFAR10_RECORDS = 10_000
#: MD5 of the archive of CIFAR-10, as published on the data set's page.
CIFAR10_MD5 = "c32a1d4ab5d03f1284b67883e8d87530"

#: Shape and SHA-256 of the uncompressed content of each file of Fashion-MNIST; compressed files differ between
#: publishers.
FASHION_MNIST = {
    "train-images-idx3-ubyte": (
        (60_000, 28, 28),
        "c59f468a2f672dc815687fe0f83887768d799fd8a3f3276145d20f83aa44d888",
    ),
    "train-labels-idx1-ubyte": (
        (60_000,),
        "bad3541b69d912435c50bb6ba87bec294ff4f6a2e1246121d8633921760443d9",
    ),
    "t10k-images-idx3-ubyte": (
        (10_000, 28, 28),
        "5b4141f0afbad91edebe8549f8fcffe087ea10ca49f1dbef5c9a5cd8815ce37b",
    ),
    "t10k-labels-idx1-ubyte": (
        (10_000,),
        "0402a96d92fd2663957122ceb108a494c5af83dab82d92729df917d7dec38c34",
    ),
}
#: Number of examples of Fashion-MNIST's training files that make the validation split.
FASHION_MNIST_VALIDATION = 10_000
#: Folder in which Debian's package ``dataset-fashion-mnist`` installs these files.
DEBIAN = Path("/usr/share/datasets/fashion-mnist")
