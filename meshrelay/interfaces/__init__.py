"""The public zope interfaces, in the order in which a message meets them.

===========  =======================================================================
flow         IUplink, IDownlink, ISubscriber, IFanout: from a socket to many others
sessions     ISession and who is told about sessions; IComponent
nodes        INodes: the other nodes of the cluster
groups       IGroups
rooms        IRooms
links        IPeerLinks
direct       IDirectMessages
application  IMeshRelay: what the application gets
callbacks    what the application registers, as types
===========  =======================================================================

::

    transport --IUplink--> session --ISession--> components --IFanout--> sessions (ISubscriber) --IDownlink--> transport

What flows back goes through one of these, never through an import. Nothing here may block; nothing raises across an
interface but the errors that a docstring names.
"""

from meshrelay.interfaces.application import IMeshRelay, IMeshRelayApp
from meshrelay.interfaces.callbacks import CommandHandler, Hook, MessageCallback, MessageMaker, ReceiveCallback
from meshrelay.interfaces.direct import IDirectMessages
from meshrelay.interfaces.flow import IConnection, IDownlink, IFanout, IStreamWriter, ISubscriber, IUplink
from meshrelay.interfaces.groups import IGroups
from meshrelay.interfaces.links import IPeerLinks
from meshrelay.interfaces.nodes import INodeObserver, INodes
from meshrelay.interfaces.rooms import IRooms
from meshrelay.interfaces.sessions import IComponent, ISession, ISessionObserver, ISessions

__all__ = [
    "CommandHandler",
    "Hook",
    "IComponent",
    "IConnection",
    "IDirectMessages",
    "IDownlink",
    "IFanout",
    "IGroups",
    "IMeshRelay",
    "IMeshRelayApp",
    "INodeObserver",
    "INodes",
    "IPeerLinks",
    "IRooms",
    "ISession",
    "ISessionObserver",
    "ISessions",
    "IStreamWriter",
    "ISubscriber",
    "IUplink",
    "MessageCallback",
    "MessageMaker",
    "ReceiveCallback",
]
