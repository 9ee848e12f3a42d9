"""Provider adapters: the only rooms that know an SDK. See `base` for the interface, `registry` for building one."""
