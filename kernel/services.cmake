# Tests of the services: audit, configuration, the registry of computers.
add_unit_test(audit kernel base PkgConfig::SQLITE WRAP posix_fallocate)
add_unit_test(audit_verify kernel base PkgConfig::SQLITE)
add_unit_test(config kernel base)
add_fuzz_target(config kernel base)
add_unit_test(computers kernel computer base WRAP audit_append)
add_unit_test(computers_life kernel computer base WRAP audit_append)
add_unit_test(computers_save kernel computer base WRAP audit_append)
add_unit_test(computers_swap kernel computer base WRAP audit_append fd_read_file)

# Rules, quotas and questions; the audit's files.
add_unit_test(access_args kernel)
add_unit_test(access_quota kernel)
add_unit_test(audit_rotate kernel base PkgConfig::SQLITE)
add_unit_test(kernel_ask kernel WRAP audit_append pthread_create)
add_fuzz_target(access kernel)
