"""The configuration: TOML text and environment variables become one frozen `schema.Config`.

::

    text, environ -> load -> values -> schema.Config -> checks, files -> whoever starts the node
                              |                                |
                              +------ every problem, at once --+-> ConfigError

``schema``      one frozen struct for each section, and the only place of defaults
``history``     which groups keep their messages
``describing``  words and bounds of a key, as ``schema`` writes them
``keys``        what ``schema`` says about each key, for programs: type, range, meaning of zero
``values``      raw TOML or text of the environment -> value, or a problem that names the key and the limit
``listening``   the strings of listening places: which address they bind
``checks``      rules between keys
``files``       rules that need the disk: files that are named must be there and fit
``load``        puts these together: `load.read_config`, `load.parse_config`
``group_json``  group settings in the JSON form that other servers of this kind use
``sample``      ``etc/meshrelay.toml`` and the reference page, made from ``keys``

A class is given its own section, never the whole `schema.Config`.
"""
