# Pictures of screens: libpng is linked to its module alone.
pkg_check_modules(PNG REQUIRED IMPORTED_TARGET libpng>=1.6)
aios_plugin(picture SOURCES picture_module.c PRIVATE PkgConfig::PNG)

aios_module(picture SOURCES picture.c PUBLIC computer http)
target_include_directories(picture PRIVATE ${PNG_INCLUDE_DIRS})
add_dependencies(picture aios_picture)

add_unit_test(picture picture PkgConfig::PNG)
