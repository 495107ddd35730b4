# The HTTP client, and the loader of modules.  libcurl is linked to its module alone: the program
# calls through the table that the module exports (http_curl.h) and does not carry the library.
pkg_check_modules(CURL REQUIRED IMPORTED_TARGET libcurl>=7.88)

# aios_plugin(NAME SOURCES … PRIVATE …): the shared object aios-NAME.so, which kernel/plugin.c finds
# in lib/aios beside the program's folder, where it is built as where it is installed.  It links
# no library of ours: what it exports is a table of the outside library's functions.
function(aios_plugin name)
  cmake_parse_arguments(M "" "" "SOURCES;PRIVATE" ${ARGN})
  set(target aios_${name})
  add_library(${target} MODULE ${M_SOURCES})
  target_link_libraries(${target} PRIVATE aios_flags ${M_PRIVATE})
  set_target_properties(${target} PROPERTIES OUTPUT_NAME aios-${name} PREFIX "" SUFFIX .so
    LIBRARY_OUTPUT_DIRECTORY ${CMAKE_BINARY_DIR}/lib/aios)
  install(TARGETS ${target} LIBRARY DESTINATION lib/aios COMPONENT aios)
endfunction()

aios_plugin(http SOURCES http_module.c PRIVATE PkgConfig::CURL)

aios_module(http
  SOURCES plugin.c http.c http_pool.c http_reply.c
  PUBLIC base
  PRIVATE ${CMAKE_DL_LIBS})
target_include_directories(http PRIVATE ${CURL_INCLUDE_DIRS})
add_dependencies(http aios_http)

add_unit_test(plugin http)
add_unit_test(http http http_script)
add_unit_test(http_flow http http_script)
