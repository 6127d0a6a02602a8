# cmake -DFOLDER=… -DOUTPUT=… -P embed_procedures.cmake
file(GLOB files ${FOLDER}/*.py)
list(SORT files)
set(entries "")
foreach(file ${files})
  get_filename_component(name ${file} NAME_WE)
  file(READ ${file} text)
  # Compilers promise to take string literals of 64 KiB; long before that, pieces are needed by some.
  string(LENGTH "${text}" length)
  set(literal "")
  set(at 0)
  while(at LESS length)
    string(SUBSTRING "${text}" ${at} 12000 piece)
    string(APPEND literal "\n      R\"~py~(${piece})~py~\"")
    math(EXPR at "${at} + 12000")
  endwhile()
  string(APPEND entries "    {\"${name}\",${literal}},\n")
endforeach()
file(WRITE ${OUTPUT} "// Generated from addon/procedures/*.py.
#include \"connectors/odoo/procedures.h\"

namespace dragoman::connectors::odoo {

std::vector<std::pair<std::string, std::string>> embedded_procedures() {
  return {
${entries}  };
}

}  // namespace dragoman::connectors::odoo
")
