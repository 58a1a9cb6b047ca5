$problem mixed CASE, labels, replacements, continuation
$input id time dose=amt dv wt=weight drop skip=x
$infile data.txt ignore=# ignore(wt.lt.30) ignore=(x 7) records=id
$abbr replace theta(ka)=theta(1) replace eta_cl=eta(2)
$abbreviated replace slope=0.5 deriv2=no
$subroutine advan1
$pk
  callfl=-2
  tvk = theta(ka) * &
        exp(eta(1))          ; goes on
  k = tvk * Exp(eta_cl) * dexp(slope*pexp(0.d0))
$error
  y = f * (1 + Err(1))
$theta (0, .5)
$omega .1 .2
$sigma .04
$table id TIME weight Y eta(2) file=out.tab print format=,1PE13.6 lastonly esample=300 seed=7
