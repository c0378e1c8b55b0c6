# Copyright (c) mmdynperceiver contributors. All rights reserved.
"""What HTTP adds to the runner at rest: one image after the other, in turn.

Start ``python -m mmdynperceiver.serve FOLDER --threads 1`` first, with or
without Ray; then ``http_cost.py FOLDER IMAGES http://127.0.0.1:8000``.
"""
import argparse
import http.client
import time
from typing import List
from urllib.parse import urlsplit

import numpy as np

from mmdynperceiver.datasets.image_files import list_images
from mmdynperceiver.deploy import Runner

WARM_UP = 30


def main() -> None:
    """Time both, and print medians and 10th percentiles."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('folder')
    parser.add_argument('images')
    parser.add_argument('url')
    parser.add_argument('--runtime', default='onnxruntime')
    parser.add_argument('--count', type=int, default=300)
    args = parser.parse_args()
    runner = Runner.load(args.folder, args.runtime, 1)
    connection = http.client.HTTPConnection(
        urlsplit(args.url).netloc, timeout=30)
    spent: List[List[float]] = []
    for path in list_images(args.images)[:WARM_UP + args.count]:
        with open(path, 'rb') as file:
            body = file.read()
        start = time.perf_counter()
        runner(body)
        middle = time.perf_counter()
        connection.request('POST', '/v1/classify', body,
                           {'Content-Type': 'application/octet-stream'})
        answer = connection.getresponse()
        answer.read()
        end = time.perf_counter()
        if answer.status != 200:
            raise RuntimeError(f'status {answer.status}')
        spent.append([1000 * (middle - start), 1000 * (end - middle)])
    times = np.array(spent[WARM_UP:])
    for q, name in ((10, '10th percentile'), (50, 'median')):
        one, other = np.percentile(times, q, axis=0)
        print(f'{name}: runner {one:.2f} ms, HTTP {other:.2f} ms')
    print(f'median of the differences: '
          f'{np.median(times[:, 1] - times[:, 0]):.2f} ms')


if __name__ == '__main__':
    main()
