"""UserService."""

from __future__ import annotations

from typing import Any

from coordinator.api.call import current_caller
from coordinator.api.convert import timestamp, user_message
from coordinator.core import Core
from coordinator.operations import users
from coordinator.v1 import user_pb2 as pb
from coordinator.v1.user_pb2_grpc import UserServiceServicer


class UserService(UserServiceServicer):
    """Users and their sessions."""

    def __init__(self, core: Core) -> None:
        self._core = core

    async def Register(self, request: pb.RegisterRequest, context: Any) -> pb.RegisterResponse:
        """See proto."""
        caller = current_caller()
        user = await users.register(self._core, caller.required())
        return pb.RegisterResponse(user=user_message(user, is_admin=caller.is_admin))

    async def Login(self, request: pb.LoginRequest, context: Any) -> pb.LoginResponse:
        """See proto."""
        caller = current_caller()
        user, session = await users.login(self._core, caller.required())
        return pb.LoginResponse(
            user=user_message(user, is_admin=caller.is_admin),
            session_token=session.token,
            expires_at=timestamp(session.expires_at),
        )

    async def Logout(self, request: pb.LogoutRequest, context: Any) -> pb.LogoutResponse:
        """See proto."""
        await users.logout(current_caller().session_token)
        return pb.LogoutResponse()
