$PROBLEM test
$INCLUDE absent.txt
$INPUT ID TIME AMT DV EVID MDV WT
$DATA data.csv IGNORE=@
$SUBROUTINES ADVAN2 TRANS1
$PK
  KA = THETA(1)*EXP(ETA(1))
  K = THETA(2)
  V = THETA(3)
  S2 = V
$ERROR
  Y = F + EPS(1)
  include "also absent.ctl" 2 ; twice
$THETA (0,1.5) (0,0.1) (0,30)
$OMEGA 0.1
$SIGMA 0.5
$INCLUDE bad 3
