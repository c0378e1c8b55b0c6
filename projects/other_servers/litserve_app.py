# Copyright (c) mmdynperceiver contributors. All rights reserved.
"""The staged scheduler in LitServe; see the README beside it.

LitServe hands over each request at once (``enable_async``), without batches
of its own.
"""
import base64
import binascii
import os
from typing import Any, Dict

import litserve
from fastapi import HTTPException

from mmdynperceiver.serve.metrics import Metrics
from mmdynperceiver.serve.problems import Problem
from mmdynperceiver.serve.settings import Settings, start_service

VARIABLE = 'MMDYNPERCEIVER_FOLDER'


class EarlyExitAPI(litserve.LitAPI):
    """Takes ``{"image": BASE64}``, and gives the class, its score, the exit
    and what it cost."""

    def setup(self, device: str) -> None:
        """Open the exported folder and start the scheduler."""
        self.service = start_service(
            Settings(os.environ[VARIABLE], threads=1), Metrics())

    async def decode_request(self, request: Dict[str, Any]) -> bytes:
        """The bytes of the image."""
        try:
            return base64.b64decode(request['image'], validate=True)
        except (KeyError, TypeError, binascii.Error) as error:
            raise HTTPException(
                400, 'send {"image": "the file in base64"}') from error

    async def predict(self, content: bytes) -> Dict[str, Any]:
        """Answered as soon as the image has left."""
        try:
            found, = await self.service.classify([('', content)])
        except Problem as problem:
            raise HTTPException(problem.status, problem.message) from problem
        return found

    async def encode_response(self, found: Dict[str, Any]) -> Dict[str, Any]:
        """What is answered."""
        return found


def main() -> None:
    """Serve on this machine alone, at port 8000 or that in ``PORT``."""
    server = litserve.LitServer(
        EarlyExitAPI(enable_async=True),
        accelerator='cpu',
        workers_per_device=1)
    server.run(
        host='127.0.0.1',
        port=int(os.environ.get('PORT', 8000)),
        generate_client_file=False)


if __name__ == '__main__':
    main()
