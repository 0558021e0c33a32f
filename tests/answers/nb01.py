"""Answers to the exercises of notebook 01: right in other words, and mistakes people make."""

ANSWERS = {
    "1.1": {
        "right": [
            "places = len(range(-largest, largest + 1))\nreturn 2 * places * places",
            "return float(2 * (4 * largest**2 + 4 * largest + 1))",
        ],
        "wrong": [
            ("return (2 * largest + 1) ** 2", "mirror"),
            ("return 2 * (2 * largest) ** 2", "no shift at all"),
            ("return 162", "without shift 2"),
            ("return 2 * (largest + 1) ** 2", "both ways"),
        ],
    },
    "1.2": {
        "right": [
            "padded = torch.nn.functional.pad(pixels - mean, [margin] * 4)\nreturn padded + mean",
            "B, C, H, W = pixels.shape\n"
            "wide = torch.ones(B, C, H + 2 * margin, W + 2 * margin) * mean\n"
            "wide[..., margin : margin + H, margin : margin + W] = pixels\nreturn wide",
            "pixels -= mean\n"
            "pixels = torch.nn.functional.pad(pixels, [margin] * 4)\n"
            "pixels += mean\n"
            "return pixels",
        ],
        "wrong": [
            ("return torch.nn.functional.pad(pixels, [margin] * 4)", "black"),
            ("return pixels", "margin"),
            (
                "wide = torch.nn.functional.pad(pixels, [margin] * 4)\n"
                "wide[:, :, :margin] = mean\nreturn wide",
                "black",
            ),
            (
                "padded = torch.nn.functional.pad(pixels, [margin] * 4, value=mean.mean().item())\n"
                "return padded",
                "each channel",
            ),
            ("pass", "`return` missing"),
        ],
    },
    "1.3": {
        "right": [
            "n = n1 + n2\nmean = (n1 * mean1 + n2 * mean2) / n\n"
            "squares = (n1 * (std1**2 + mean1**2) + n2 * (std2**2 + mean2**2)) / n\n"
            "return mean, (squares - mean**2) ** 0.5",
            "w = n1 / (n1 + n2)\nmean = w * mean1 + (1 - w) * mean2\n"
            "var = w * std1**2 + (1 - w) * std2**2 + w * (1 - w) * (mean1 - mean2) ** 2\n"
            "return mean, var**0.5",
        ],
        "wrong": [
            ("return (mean1 + mean2) / 2, (std1 + std2) / 2", "size"),
            (
                "n = n1 + n2\nmean = (n1 * mean1 + n2 * mean2) / n\n"
                "return mean, ((n1 * std1**2 + n2 * std2**2) / n) ** 0.5",
                "variance of the means",
            ),
            (
                "n = n1 + n2\nmean = (n1 * mean1 + n2 * mean2) / n\n"
                "return mean, (n1 * std1 + n2 * std2) / n",
                "variance of the means",
            ),
            (
                "mean = (n1 * mean1 + n2 * mean2) / (n1 + n2)\n"
                "inside = (n1 - 1) * std1**2 + (n2 - 1) * std2**2\n"
                "apart = n1 * (mean1 - mean) ** 2 + n2 * (mean2 - mean) ** 2\n"
                "return mean, ((inside + apart) / (n1 + n2 - 1)) ** 0.5",
                "not by one less",
            ),
            ("pass", "`return` missing"),
        ],
    },
    "1.4": {
        "right": [
            "flat = image_set.images.reshape(len(image_set), 3, 1024)\n"
            "return replace(image_set, images=flat[..., order].reshape(len(image_set), 3, 32, 32))",
            "places = order.expand(len(image_set), 3, 1024)\n"
            "flat = image_set.images.flatten(2).gather(2, places)\n"
            "return replace(image_set, images=flat.unflatten(2, (32, 32)))",
        ],
        "wrong": [
            ("return image_set", "nothing has moved"),
            (
                "order = torch.randperm(1024)\n"
                "images = image_set.images.flatten(2)[:, :, order].view(-1, 3, 32, 32)\n"
                "return replace(image_set, images=images)",
                "the order that is given",
            ),
            (
                "flat = image_set.images.flatten(1)\n"
                "images = flat[:, torch.randperm(3072)].view(-1, 3, 32, 32)\n"
                "return replace(image_set, images=images)",
                "channel",
            ),
            ("pass", "`return` missing"),
        ],
    },
}
