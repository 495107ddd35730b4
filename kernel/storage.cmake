# Storage: the core with its cache, tokens and cursors, and the back ends.
file(GLOB storage CONFIGURE_DEPENDS RELATIVE ${CMAKE_CURRENT_SOURCE_DIR} storage_*.c)
list(FILTER storage EXCLUDE REGEX "storage_(s3|postgres)")
aios_module(storage SOURCES storage.c ${storage} PUBLIC kernel_core PRIVATE PkgConfig::SQLITE)

add_unit_test(storage_sqlite storage PkgConfig::SQLITE WRAP clock_wall_ns)

# S3 speaks through http.h.
target_sources(storage PRIVATE storage_s3.c storage_s3_commit.c storage_s3_index.c
  storage_s3_lease.c storage_s3_object.c storage_s3_request.c storage_s3_server.c
  storage_s3_sign.c storage_s3_space.c storage_s3_write.c storage_s3_xml.c)
target_link_libraries(storage PRIVATE http)
add_unit_test(storage_s3_sign storage)
add_unit_test(storage_s3 storage http_script WRAP clock_wall_ns)
add_fuzz_target(s3_xml storage)
add_fuzz_target(s3_commit storage)
if(BUILD_TESTING)
  target_compile_definitions(test_storage_s3 PRIVATE
    AIOS_NODE_MODULES="${CMAKE_SOURCE_DIR}/build/node/node_modules")
endif()
add_unit_test(storage_file storage WRAP clock_wall_ns fsync renameat)

# PostgreSQL: libpq is linked to its module alone.
pkg_check_modules(PQ REQUIRED IMPORTED_TARGET libpq>=14)
aios_plugin(postgres SOURCES storage_postgres_module.c PRIVATE PkgConfig::PQ)
target_sources(storage PRIVATE storage_postgres.c storage_postgres_conn.c
  storage_postgres_pool.c storage_postgres_write.c)
target_include_directories(storage PRIVATE ${PQ_INCLUDE_DIRS})
add_dependencies(storage aios_postgres)
add_unit_test(storage_postgres storage WRAP clock_wall_ns plugin_open)
if(BUILD_TESTING)
  target_include_directories(test_storage_postgres PRIVATE ${PQ_INCLUDE_DIRS})
endif()
add_unit_test(storage storage)
add_unit_test(storage_cache storage)
add_unit_test(storage_token storage)
add_unit_test(storage_crash storage)
add_fuzz_target(storage storage)
